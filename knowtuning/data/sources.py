"""Question-and-answer rows from a reader's own files: alpaca JSON, or one JSON object per line."""

from __future__ import annotations

from pathlib import Path

from knowtuning.artifacts import DataError, read_json, read_jsonl
from knowtuning.data.records import Row, check_rows, kind, text_of

# Columns of the alpaca form that would change the prompt; no stage here knows what to do with them.
UNREAD = ("history", "system")


def load(path: str | Path) -> list[Row]:
    """Read a file of questions and answers into checked QA rows, in the order of the file and none left out.

    Args:
        path: `.json` holds a list of objects, `.jsonl` one object per line. An object has `question` and `answer`
            (`id` and `source` if it likes) or the alpaca fields `instruction`, `input`, `output`; a non-empty `input`
            follows the instruction on a new line, as in LLaMA-Factory.

    Returns:
        QA rows. Where a row names no id it gets the file's stem and its row number ("dolly-00001"), where it names no
        source the stem.

    Raises:
        DataError: the file is missing, empty or of another form, or a row cannot be used; one sentence with file, row,
            field and cure.
    """
    path = Path(path)
    rows = []
    for number, raw in enumerate(read_objects(path), start=1):
        where = f"{path}, row {number}"
        if "question" in raw or "answer" in raw:
            row = dict(raw)
        else:
            question, answer = from_alpaca(raw, where)
            row = {key: raw[key] for key in ("id", "source") if key in raw} | {"question": question, "answer": answer}
        rows.append({"id": f"{path.stem}-{number:05d}", **row})
    return check_rows(rows, path)


def read_objects(path: str | Path) -> list[dict]:
    """Read a non-empty `.json` list or `.jsonl` file of objects, or raise `DataError` with the cure."""
    path = Path(path)
    if path.suffix not in (".json", ".jsonl"):
        raise DataError(
            f"{path}: the form {path.suffix or 'without suffix'!r} is not read; give a .json or .jsonl file."
        )
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; give the path of a data file.")
    if not path.read_bytes().strip():
        raise DataError(f"{path} is empty; give a file with at least one row.")
    rows = read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list):
        raise DataError(
            f"{path} holds {kind(rows)}; put the rows into a list, or write one per line and name it .jsonl."
        )
    if not rows:
        raise DataError(f"{path} holds an empty list; give a file with at least one row.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, row {number}: expected a JSON object, found {kind(row)}; give one object per row."
            )
    return rows


def from_alpaca(row: dict, where: str) -> tuple[str, str]:
    """Return (question, answer) of an alpaca row.

    Example:
        >>> from_alpaca({"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}, "a.json, row 1")
        ('Translate.\\nGuten Tag', 'Good day')
    """
    for field in UNREAD:
        if row.get(field):
            raise DataError(f"{where}: field {field!r} is not read; fold it into 'instruction' or empty it.")
    return alpaca_question(row, where), text_of(row, "output", where)


def alpaca_question(row: dict, where: str) -> str:
    """Return the question of an alpaca row: the instruction and, on a new line, the input where there is one."""
    given = {field: row[field] for field in ("instruction", "input") if row.get(field) not in (None, "")}
    if "input" in given and "instruction" in given:
        return f"{text_of(given, 'instruction', where)}\n{text_of(given, 'input', where)}"
    return text_of(given, "input", where) if "input" in given else text_of(row, "instruction", where)


def duplicates(rows: list[Row]) -> int:
    """Return how many rows repeat an earlier question with the same answer; they are counted here and kept."""
    return len(rows) - len({(row["question"], row["answer"]) for row in rows})


def leaks(train: list[Row], test: list[Row]) -> list[tuple[str, str]]:
    """Return (test id, train id) for every test question that stands in train too, whatever its answer there.

    Questions count as the same when they differ in letter case or blanks alone.
    """
    first: dict[str, str] = {}
    for row in train:
        first.setdefault(same_question(row), row["id"])
    return [(row["id"], first[key]) for row in test if (key := same_question(row)) in first]


def same_question(row: Row) -> str:
    """Return what two rows share when they ask the same question: its words, without letter case and spacing.

    Example:
        >>> same_question({"question": " What  is Rust?"}) == same_question({"question": "what is rust?"})
        True
    """
    return " ".join(row["question"].casefold().split())

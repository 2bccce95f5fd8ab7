"""Alpaca and preference files as LLaMA-Factory 0.9.5 reads them, out and in; also those of KnowTuning's authors."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from pathlib import Path

from knowtuning.data.records import Row, kind, text_of
from knowtuning.data.tables import read_objects
from knowtuning.files import DataError, read_json, write_array, write_json

PROMPT_COLUMNS = {"prompt": "instruction", "query": "input"}
ALPACA = {"columns": PROMPT_COLUMNS | {"response": "output"}}
RANKING = {"columns": PROMPT_COLUMNS | {"chosen": "chosen", "rejected": "rejected"}, "ranking": True}
# Columns of the alpaca form that would change the prompt; no stage here knows what to do with them.
UNREAD = ("history", "system")
UNKNOWN = "unknown"  # the aspect of a pair whose file does not tell it


def write_alpaca(path: str | Path, rows: Iterable[dict]) -> Path:
    """Write rows with `question` and `answer` as alpaca rows `{"instruction", "input", "output"}`, and nothing more.

    The order is kept, so that whatever else is known of a row can stand in a side file at the same position.
    """
    rows = ({"instruction": row["question"], "input": "", "output": row["answer"]} for row in rows)
    return write_array(Path(path), rows)


def write_ranking(path: str | Path, rows: Iterable[dict]) -> Path:
    """Write rows with `question`, `chosen`, `rejected` as preference rows of LLaMA-Factory 0.9.5, and nothing more.

    `chosen` and `rejected` are string columns; the list in `output` that 0.5.3 had is no longer read there.
    """
    rows = (
        {"instruction": row["question"], "input": "", "chosen": row["chosen"], "rejected": row["rejected"]}
        for row in rows
    )
    return write_array(Path(path), rows)


def write_dataset_info(directory: str | Path, name: str, file_name: str, ranking: bool = False) -> Path:
    """Enter a data file into `dataset_info.json` of its folder; other entries stay, one of the same name is replaced.

    Args:
        directory: the folder that LLaMA-Factory gets as `dataset_dir`.
        name: the name of the data set there.
        file_name: the file, relative to `directory`; it must exist, as an entry without a file only fails later.
        ranking: the file holds preferences.

    Example:
        write_ranking(folder / "kc.json", pairs)
        write_dataset_info(folder, "kc", "kc.json", ranking=True)
    """
    directory = Path(directory)
    if not (directory / file_name).is_file():
        raise DataError(f"{directory / file_name} is missing; write it before it is entered into dataset_info.json.")
    path = directory / "dataset_info.json"
    # two notebooks may enter their files at the same time
    with open(directory / ".dataset_info.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read_json(path) if path.exists() else {}
        if not isinstance(known, dict):
            raise DataError(f"{path} holds {kind(known)}, not an object; repair it or move it away.")
        return write_json(path, known | {name: {"file_name": file_name, **(RANKING if ranking else ALPACA)}})


def read_alpaca(path: str | Path) -> list[dict[str, str]]:
    """Read an alpaca file into rows `{"question", "answer"}`; a row that cannot be used raises `DataError`."""
    numbered = enumerate(read_objects(path), start=1)
    pairs = (from_alpaca(raw, f"{path}, row {number}") for number, raw in numbered)
    return [{"question": question, "answer": answer} for question, answer in pairs]


def from_alpaca(row: dict, where: str) -> tuple[str, str]:
    """Return (question, answer) of an alpaca row.

    Example:
        >>> from_alpaca({"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}, "a.json, row 1")
        ('Translate.\\nGuten Tag', 'Good day')
    """
    for field in UNREAD:
        if row.get(field):
            raise DataError(f"{where}: field {field!r} is not read; fold it into 'instruction' or empty it.")
    return _question(row, where), text_of(row, "output", where)


def _question(row: dict, where: str) -> str:
    """The question of an alpaca row: the instruction and, on a new line, the input where there is one."""
    given = [field for field in ("instruction", "input") if row.get(field) not in (None, "")]
    return "\n".join(text_of(row, field, where) for field in given or ["instruction"])


def read_ranking(path: str | Path) -> list[dict[str, str]]:
    """Read a preference file into rows `{"question", "chosen", "rejected"}`, and `aspect` where a row has that column.

    Both forms are read: string columns `chosen` and `rejected`, and the older `output: [chosen, rejected]` of the
    authors' `dolly_KC.json`. A row that has neither raises `DataError`.
    """
    rows = []
    for number, raw in enumerate(read_objects(path), start=1):
        where = f"{path}, row {number}"
        answers = raw if "output" not in raw else _two_answers(raw["output"], where)
        row = {"question": _question(raw, where)}
        rows.append(row | {side: text_of(answers, side, where) for side in ("chosen", "rejected")})
        if "aspect" in raw:
            rows[-1]["aspect"] = text_of(raw, "aspect", where)
    return rows


def _two_answers(output: object, where: str) -> dict:
    if not isinstance(output, list) or len(output) != 2:
        given = f"a list of {len(output)}" if isinstance(output, list) else kind(output)
        raise DataError(f"{where}: field 'output' is {given}; give [chosen, rejected], or two fields of these names.")
    return dict(zip(("chosen", "rejected"), output, strict=True))


def read_ka(path: str | Path, train: list[Row]) -> list[dict]:
    """Read an augmentation file (D_ka = D + D*), such as the authors' `dolly_KA.json`, in the form of our own.

    Args:
        path: alpaca rows.
        train: the rows of `data/train.jsonl`.

    Returns:
        Rows with `id`, `question`, `answer`, `facts` (none: the file does not tell them) and `from`: "original" with
        the id of the training row of that question and answer, and "rewritten" for any other, called
        "dolly_KA-00042" by its number. Originals come first, each part in the order of the file.
    """
    originals: dict[tuple[str, str], list[str]] = {}
    for row in reversed(train):
        originals.setdefault((row["question"], row["answer"]), []).append(row["id"])
    rows = []
    for number, row in enumerate(read_alpaca(path), start=1):
        ids = originals.get((row["question"], row["answer"]))
        known = {"id": ids.pop(), "from": "original"} if ids else {"id": _numbered(path, number), "from": "rewritten"}
        rows.append({**known, **row, "facts": []})
    return sorted(rows, key=lambda row: row["from"])


def read_kc(path: str | Path, train: list[Row]) -> list[dict]:
    """Read a comparison file, such as the authors' `dolly_KC.json`, in the form of our own.

    Args:
        path: preference rows in either form of `read_ranking`.
        train: the rows of `data/train.jsonl`.

    Returns:
        Pairs with `id` (that of the first training row with the question, else "dolly_KC-00042"), `question`,
        `chosen`, `rejected`, `aspect` ("unknown" without such a column), and no `facts` and `disturbed`.
    """
    first: dict[str, str] = {}
    for row in train:
        first.setdefault(row["question"], row["id"])
    return [
        {"id": first.get(pair["question"]) or _numbered(path, number), "aspect": UNKNOWN, **pair}
        | {"facts": [], "disturbed": []}
        for number, pair in enumerate(read_ranking(path), start=1)
    ]


def _numbered(path: str | Path, number: int) -> str:
    return f"{Path(path).stem}-{number:05d}"

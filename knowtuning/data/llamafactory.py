"""Alpaca and preference files as LLaMA-Factory 0.9.5 reads them, out and in."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from pathlib import Path

from knowtuning.data.records import kind, text_of
from knowtuning.data.sources import alpaca_question, from_alpaca, read_objects
from knowtuning.files import DataError, read_json, write_array, write_json

PROMPT_COLUMNS = {"prompt": "instruction", "query": "input"}
ALPACA = {"columns": PROMPT_COLUMNS | {"response": "output"}}
RANKING = {"columns": PROMPT_COLUMNS | {"chosen": "chosen", "rejected": "rejected"}, "ranking": True}


def write_alpaca(path: str | Path, rows: Iterable[dict]) -> Path:
    """Write rows with `question` and `answer` as alpaca rows `{"instruction", "input", "output"}`, and nothing more.

    The order is kept, so that whatever else is known of a row can stand in a side file at the same position.
    """
    return write_array(
        Path(path), ({"instruction": row["question"], "input": "", "output": row["answer"]} for row in rows)
    )


def write_ranking(path: str | Path, rows: Iterable[dict]) -> Path:
    """Write rows with `question`, `chosen`, `rejected` as preference rows of LLaMA-Factory 0.9.5, and nothing more.

    `chosen` and `rejected` are string columns; the list in `output` that 0.5.3 had is no longer read there.
    """
    return write_array(
        Path(path),
        (
            {"instruction": row["question"], "input": "", "chosen": row["chosen"], "rejected": row["rejected"]}
            for row in rows
        ),
    )


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
    rows = []
    for number, raw in enumerate(read_objects(path), start=1):
        question, answer = from_alpaca(raw, f"{path}, row {number}")
        rows.append({"question": question, "answer": answer})
    return rows


def read_ranking(path: str | Path) -> list[dict[str, str]]:
    """Read a preference file into rows `{"question", "chosen", "rejected"}`.

    Both forms are read: string columns `chosen` and `rejected`, and the older `output: [chosen, rejected]`. A row that
    has neither raises `DataError`.
    """
    rows = []
    for number, raw in enumerate(read_objects(path), start=1):
        where = f"{path}, row {number}"
        answers = raw if "output" not in raw else _two_answers(raw["output"], where)
        chosen, rejected = (text_of(answers, field, where) for field in ("chosen", "rejected"))
        rows.append({"question": alpaca_question(raw, where), "chosen": chosen, "rejected": rejected})
    return rows


def _two_answers(output: object, where: str) -> dict:
    if not isinstance(output, list) or len(output) != 2:
        found = f"a list of {len(output)}" if isinstance(output, list) else kind(output)
        raise DataError(f"{where}: field 'output' is {found}; give [chosen, rejected], or two fields of these names.")
    return dict(zip(("chosen", "rejected"), output, strict=True))

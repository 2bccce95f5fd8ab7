"""LIMA as its authors published it: conversations, of which those with one question and one answer are kept."""

from __future__ import annotations

from pathlib import Path

from knowtuning.data.records import Row, kind, text_of
from knowtuning.files import DataError


def is_raw(row: dict) -> bool:
    """Tell whether a row is a conversation."""
    return "conversations" in row


def select(raw: list[dict], path: str | Path) -> tuple[list[Row], dict[str, int]]:
    """Keep the conversations of one turn; those of several turns and those without an answer are counted.

    Args:
        raw: rows with `conversations`, a list of texts in which question and answer alternate.
        path: where they come from, for messages.

    Returns:
        QA rows called "lima-00042" by the row number in the raw file, and the rows removed, by reason.
    """
    rows, removed = [], {"of several turns": 0, "without an answer": 0}
    for number, row in enumerate(raw, start=1):
        where, turns = f"{path}, row {number}", row["conversations"]
        if not isinstance(turns, list) or not turns:
            found = "an empty list" if turns == [] else kind(turns)
            raise DataError(f"{where}: field 'conversations' is {found}; give a list of question and answer.")
        if len(turns) > 2:
            removed["of several turns"] += 1
        elif len(turns) < 2:
            removed["without an answer"] += 1
        else:
            pair = dict(zip(("question", "answer"), turns, strict=True))
            texts = {field: text_of(pair, field, where) for field in pair}
            rows.append({"id": f"lima-{number:05d}", **texts, "source": "lima"})
    return rows, removed

"""Dolly as its authors published it, and the part of it that asks for knowledge."""

from __future__ import annotations

from pathlib import Path

from knowtuning.data.records import Row, text_of

COLUMNS = {"instruction", "context", "response", "category"}
CATEGORIES = ("open_qa", "general_qa")
MIN_ANSWER_WORDS = 10


def is_raw(row: dict) -> bool:
    """Tell whether a row has Dolly's own columns, not those of a file that was made from it."""
    return row.keys() >= COLUMNS


def select(raw: list[dict], path: str | Path) -> tuple[list[Row], dict[str, int]]:
    """Keep the questions that are answered from knowledge alone, at some length.

    Kept are the categories open_qa and general_qa, without a context, with at least ten words in the answer. This is
    the project's reading of "Dolly (generic)" in the paper, whose rule is not published; its own training file agrees
    in that the shortest of its 4000 answers has ten words. Equal rows stay: they are counted in the data card.

    Args:
        raw: rows with Dolly's columns.
        path: where they come from, for messages.

    Returns:
        QA rows called "dolly-00042" by the row number in the raw file, and the rows removed at each step, by reason.

    Raises:
        DataError: a field that a kept row needs is missing or not text.
    """
    rows, removed = [], {"of another category": 0, "with a context": 0, f"under {MIN_ANSWER_WORDS} answer words": 0}
    category, context, words = removed
    for number, row in enumerate(raw, start=1):
        where = f"{path}, row {number}"
        if text_of(row, "category", where) not in CATEGORIES:
            removed[category] += 1
        elif (row["context"] or "").strip():
            removed[context] += 1
        elif len((row["response"] or "").split()) < MIN_ANSWER_WORDS:
            removed[words] += 1
        else:
            question, answer = text_of(row, "instruction", where), text_of(row, "response", where)
            rows.append({"id": f"dolly-{number:05d}", "question": question, "answer": answer, "source": "dolly"})
    return rows, removed

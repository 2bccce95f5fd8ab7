"""Data sets as their authors published them, told by their columns: Dolly, LIMA's conversations, tables of MedQuAD."""

from __future__ import annotations

from pathlib import Path

from knowtuning.data.records import Row, kind, text_of
from knowtuning.files import DataError

DOLLY = {"instruction", "context", "response", "category"}
CATEGORIES = ("open_qa", "general_qa")
MIN_ANSWER_WORDS = 10
MEDQUAD = {"focus_area", "qtype", "question_focus"}  # columns that only tables made of MedQuAD have


def select(raw: list[dict], path: str | Path) -> tuple[list[Row], dict[str, int]] | None:
    """Select the rows of a published data set; None for a file in another form.

    * Dolly: the categories open_qa and general_qa, without a context, with at least ten words in the answer. This is
      the project's reading of "Dolly (generic)" in the paper, whose rule is not published; its own training file agrees
      in that the shortest of its 4000 answers has ten words. Equal rows stay: they are counted in the data card.
    * LIMA (`conversations`: lists in which question and answer alternate): the conversations of one turn.
    * MedQuAD (`question, answer, source, focus_area`, `qtype, Question, Answer` and the columns of the hub's
      lavita/MedQuAD, `question_focus`, `document_source`): the rows that have a question and an answer.

    Args:
        raw: rows as they stand in the file; the first one's columns decide.
        path: where they come from, for messages.

    Returns:
        QA rows called "dolly-00042" by the row number in the file (ids of MedQuAD occur twice), and the rows removed,
        by reason.

    Raises:
        DataError: a field that a kept row needs is missing or not text.
    """
    columns = raw[0].keys()
    if columns >= DOLLY:
        name, reasons, read = "dolly", ("of another category", "with a context", "under 10 answer words"), _dolly
    elif "conversations" in columns:
        name, reasons, read = "lima", ("of several turns", "without an answer"), _lima
    elif columns >= {"question", "answer"} and MEDQUAD & columns:
        name, reasons, read = "medquad", ("without an answer", "without a question"), _medquad
    else:
        return None
    rows, removed = [], dict.fromkeys(reasons, 0)
    for number, row in enumerate(raw, start=1):
        where = f"{path}, row {number}"
        texts = read(row, where)
        if isinstance(texts, str):
            removed[texts] += 1
        else:
            checked = {field: text_of(texts, field, where) for field in ("question", "answer")}
            rows.append({"id": f"{name}-{number:05d}", **checked, "source": texts.get("source") or name})
    return rows, removed


def _dolly(row: dict, where: str) -> dict | str:
    """The texts of a row, or the reason why it is left out."""
    if text_of(row, "category", where) not in CATEGORIES:
        return "of another category"
    if (row["context"] or "").strip():
        return "with a context"
    if len((row["response"] or "").split()) < MIN_ANSWER_WORDS:
        return f"under {MIN_ANSWER_WORDS} answer words"
    return {"question": row["instruction"], "answer": row["response"]}


def _lima(row: dict, where: str) -> dict | str:
    turns = row["conversations"]
    if not isinstance(turns, list) or not turns:
        given = "an empty list" if turns == [] else kind(turns)
        raise DataError(f"{where}: field 'conversations' is {given}; give a list of question and answer.")
    if len(turns) != 2:
        return "of several turns" if len(turns) > 2 else "without an answer"
    return dict(zip(("question", "answer"), turns, strict=True))


def _medquad(row: dict, where: str) -> dict | str:
    for field, reason in (("answer", "without an answer"), ("question", "without a question")):
        if not (row[field] or "").strip():
            return reason
    return {**row, "source": row.get("document_source") or row.get("source")}

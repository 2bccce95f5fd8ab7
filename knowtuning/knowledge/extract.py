"""Stage I, first step: the atomic facts K = Extract(a) of every training answer (paper, section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowtuning.progress import of_calls, progress
from knowtuning.teacher.prompts import EXTRACT

if TYPE_CHECKING:
    from knowtuning.teacher.client import Teacher


def extract_facts(teacher: Teacher, rows: list[dict]) -> tuple[list[dict], dict[str, int]]:
    """Ask the teacher for the facts of each answer, in the order of the answer.

    Returns rows `{"id", "facts"}` for every answer in which the teacher found facts, and counts: answers, facts, and
    answers in quarantine (unreadable replies, and answers that hold no fact).
    """
    asked = [(row["id"], {"question": row["question"], "answer": row["answer"]}) for row in rows]
    with progress("teacher: extract", len(asked)) as tick:
        replies = teacher.map(EXTRACT, asked, of_calls(tick))
    facts = [
        {"id": row["id"], "facts": reply.facts} for row, reply in zip(rows, replies, strict=True) if reply is not None
    ]
    return facts, {
        "answers": len(rows),
        "facts": sum(len(row["facts"]) for row in facts),
        "quarantined": len(rows) - len(facts),
    }

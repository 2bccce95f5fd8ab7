"""Stage I, third step: difficult facts become a fine-grained question and answer; D_ka = D + D* (section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knowtuning.progress import of_calls, progress
from knowtuning.teacher.prompts import REWRITE

if TYPE_CHECKING:
    from knowtuning.teacher.client import Teacher


def rewrite(teacher: Teacher, rows: list[dict], difficult: dict[str, list[str]]) -> tuple[list[dict], dict[str, int]]:
    """Rewrite each question and answer so that they are about the difficult facts only.

    Args:
        rows: QA rows.
        difficult: the difficult facts by row id, in the order of the answer.

    Returns:
        One row `{"id", "question", "answer", "facts"}` per answer with difficult facts (D*), and counts.
    """
    asked = [
        (row["id"], {"question": row["question"], "facts": difficult[row["id"]]})
        for row in rows
        if difficult.get(row["id"])
    ]
    with progress("teacher: rewrite", len(asked)) as tick:
        replies = teacher.map(REWRITE, asked, of_calls(tick))
    rewritten = [
        {"id": name, "question": reply.question, "answer": reply.answer, "facts": inputs["facts"]}
        for (name, inputs), reply in zip(asked, replies, strict=True)
        if reply is not None
    ]
    return rewritten, {
        "answers": len(rows),
        "without a difficult fact": len(rows) - len(asked),
        "rewritten": len(rewritten),
        "quarantined": len(asked) - len(rewritten),
    }

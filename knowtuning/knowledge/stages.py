"""The teacher's stages one after another on a few rows: what a preview shows and an estimate extrapolates from."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from knowtuning.teacher.client import Teacher
from knowtuning.teacher.prompts import EXTRACT, REPHRASE, REVISE, REWRITE, Task
from knowtuning.teacher.record import Paid, cache_key

STAGES = (EXTRACT, REWRITE, REVISE, REPHRASE)


@dataclass
class Trail:
    """One row on its way through the stages: `replies` and `paid` by the name of the task, None where it failed."""

    row: dict
    replies: dict[str, dict | None] = field(default_factory=dict)
    paid: dict[str, Paid] = field(default_factory=dict)


def run_stages(teacher: Teacher, rows: list[dict], alpha: float = 0.5, seed: int = 0) -> list[Trail]:
    """Send QA rows through extract, rewrite, revise and rephrase, as notebooks 03, 05 and 06 do.

    Which facts are difficult is not known before there is an SFT model: a random alpha share of each answer's facts
    stands for them, of the same number.
    """
    trails = [Trail(row) for row in rows]
    _stage(teacher, EXTRACT, trails, lambda row, facts: {"question": row["question"], "answer": row["answer"]})

    def some(row: dict, facts: list[str]) -> dict:
        count = math.ceil(alpha * len(facts) - 1e-9)
        chosen = random.Random(f"{seed} stages {row['id']}").sample(range(len(facts)), count)
        return {"question": row["question"], "facts": [facts[place] for place in sorted(chosen)]}

    _stage(teacher, REWRITE, trails, some)
    for task in (REVISE, REPHRASE):
        _stage(teacher, task, trails, lambda row, facts: {"question": row["question"], "facts": facts})
    return trails


def _stage(teacher: Teacher, task: Task, trails: list[Trail], inputs_of) -> None:
    """Ask one task about every row that has come so far; what is paid for it is read from the record."""
    open_trails = []
    for trail in trails:
        extracted = trail.replies.get("extract")
        facts = extracted["facts"] if extracted else []
        trail.replies[task.name], trail.paid[task.name] = None, Paid()
        if task is EXTRACT or facts:
            open_trails.append((trail, inputs_of(trail.row, facts)))
    replies = teacher.map(task, [(trail.row["id"], inputs) for trail, inputs in open_trails])
    for (trail, inputs), reply in zip(open_trails, replies, strict=True):
        trail.replies[task.name] = None if reply is None else reply.model_dump()
        trail.paid[task.name] = teacher.record.paid(cache_key(task, inputs, teacher.model, teacher.sampling))

"""What both baselines start from: several answers of one model to the same question, and pairs of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, islice, zip_longest
from typing import Any, TypeVar

from knowtuning.progress import of_calls, progress
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.prompts import Task
from knowtuning.training.generate import generate

T = TypeVar("T")


def draw(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict],
    responses: int,
    max_new_tokens: int = 160,
    batch_size: int = 64,
    seed: int = 0,
) -> list[dict]:
    """Sample `responses` answers to the question of every row at temperature 1, without a cut of the distribution.

    Returns one sample `{"id", "question", "answers": [str, …]}` per row; an answer may be empty or drawn twice.
    """
    if responses < 2:
        raise ValueError(f"responses is {responses}; a pair needs at least two answers to a question.")
    questions = [row["question"] for row in rows for _ in range(responses)]
    replies = generate(model, tokenizer, questions, "pure", max_new_tokens, batch_size, seed)
    texts = (reply["answer"] for reply in replies)
    return [{"id": r["id"], "question": r["question"], "answers": [*islice(texts, responses)]} for r in rows]


def different(answers: Sequence[str]) -> list[int]:
    """Places of the answers that say something and that no earlier one says word for word.

    >>> different(["It is red.", "", "It is blue.", "It is red."])
    [0, 2]
    """
    first: dict[str, int] = {}
    for place, answer in enumerate(answers):
        if answer.strip():
            first.setdefault(answer.strip(), place)
    return list(first.values())


def couples(answers: Sequence[str]) -> list[tuple[int, int]]:
    """All pairs of different answers, as places in the list."""
    return list(combinations(different(answers), 2))


def evenly(groups: Sequence[tuple[str, Sequence[T]]], seed: int) -> list[tuple[int, T]]:
    """The members of all groups, one of each group in turn, so that any beginning of the list is spread evenly.

    Args:
        groups: name and members of each. The seed shuffles the order of the groups, and with a group's name its
            members, which so do not depend on the groups beside it.

    Returns:
        (place of the group, member) for every member.
    """
    shuffled = [
        [(place, member) for member in random.Random(f"{seed} {name}").sample(list(members), len(members))]
        for place, (name, members) in enumerate(groups)
    ]
    random.Random(f"{seed} groups").shuffle(shuffled)
    return [drawn for turn in zip_longest(*shuffled) for drawn in turn if drawn is not None]


def preference(sample: dict, chosen: int, rejected: int, aspect: str) -> dict:
    """A pair of two answers of a sample, by their places: `{"id", "question", "chosen", "rejected", "aspect"}`."""
    texts = {"chosen": sample["answers"][chosen], "rejected": sample["answers"][rejected]}
    return {"id": sample["id"], "question": sample["question"], **texts, "aspect": aspect}


def ask(teacher: Teacher, task: Task, requests: Sequence[tuple[str, dict]]) -> list:
    """Replies to requests `(id, inputs)`, None where one is in quarantine, with a line of progress."""
    with progress(f"teacher: {task.name}", len(requests)) as tick:
        return teacher.map(task, requests, of_calls(tick))

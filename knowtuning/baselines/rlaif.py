"""RLAIF: a language model says which of two answers of the policy is better (Lee et al. 2023).

Lee et al. train a reward model on such labels and then the policy by reinforcement learning. In comparisons with DPO,
as here, the labelled pairs are trained on directly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from knowtuning.baselines.samples import ask, couples, different, evenly, preference
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.prompts import PREFER

ASPECT = "preference"
_OTHER = {"first": "second", "second": "first", "tie": "tie"}


def pairs(teacher: Teacher, samples: Sequence[dict], limit: int, seed: int = 0) -> tuple[list[dict], dict[str, int]]:
    """Let the teacher label pairs of different answers to the same question, until there are `limit` preferences.

    Every pair is shown in both orders, as Lee et al. do because labellers favour a place; only a verdict that both
    orders agree on counts. Candidates come from all questions in turn, and each round labels as many as pairs are still
    missing, so that no more are labelled than it takes; a round without a readable verdict is the last.

    Returns:
        At most `limit` pairs `{"id", "question", "chosen", "rejected", "aspect"}`, and counts: questions, answers,
        different ones (not empty, not said before), candidates, those labelled, and of these pairs, ties (in both
        orders), inconsistent ones, and those of which a verdict could not be read.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; ask for at least one pair.")
    candidates = evenly([(f"rlaif {sample['id']}", couples(sample["answers"])) for sample in samples], seed)
    made: list[dict] = []
    counts: Counter[str] = Counter()
    labelled = 0
    while len(made) < limit and labelled < len(candidates):
        batch = candidates[labelled : labelled + limit - len(made)]
        labelled += len(batch)
        verdicts = _label(teacher, samples, batch)
        counts.update(verdicts)
        for (place, couple), verdict in zip(batch, verdicts, strict=True):
            if verdict in ("first", "second"):
                ordered = couple if verdict == "first" else couple[::-1]
                made.append(preference(samples[place], *ordered, ASPECT))
        if set(verdicts) == {"unreadable"}:
            break
    return made, {
        "questions": len(samples),
        "answers": sum(len(sample["answers"]) for sample in samples),
        "different answers": sum(len(different(sample["answers"])) for sample in samples),
        "candidates": len(candidates),
        "labelled": labelled,
        "pairs": len(made),
        "ties": counts["tie"],
        "inconsistent": counts["inconsistent"],
        "unreadable": counts["unreadable"],
    }


def _label(teacher: Teacher, samples: Sequence[dict], candidates: list[tuple[int, tuple[int, int]]]) -> list[str]:
    """One of "first", "second", "tie", "inconsistent", "unreadable" per candidate."""
    requests = []
    for place, (a, b) in candidates:
        sample = samples[place]
        for first, second in ((a, b), (b, a)):
            texts = {"first": sample["answers"][first], "second": sample["answers"][second]}
            requests.append((f"{sample['id']}.{first}-{second}", {"question": sample["question"], **texts}))
    replies = ask(teacher, PREFER, requests)
    verdicts = []
    for reply, turned in zip(replies[::2], replies[1::2], strict=True):
        if reply is None or turned is None:
            verdicts.append("unreadable")
        else:
            verdicts.append(reply.preferred if reply.preferred == _OTHER[turned.preferred] else "inconsistent")
    return verdicts

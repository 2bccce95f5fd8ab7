"""Stage II: make an answer incomplete, false or illogical, and pair it with a rephrasing (paper, section 3.2)."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from knowtuning.knowledge.aspects import ASPECTS
from knowtuning.progress import of_calls, progress
from knowtuning.teacher.prompts import REPHRASE, REVISE

if TYPE_CHECKING:
    from knowtuning.teacher.client import Teacher


def delete_facts(facts: list[str], beta: float, rng: random.Random) -> list[str] | None:
    """Leave out a beta share of the facts at random, at least one, and keep at least one; None for a single fact.

    Example:
        >>> delete_facts(["A.", "B.", "C.", "D."], 0.5, random.Random(0))
        ['A.', 'C.']
    """
    if len(facts) < 2:
        return None
    kept = len(facts) - min(max(1, math.floor(beta * len(facts) + 1e-9)), len(facts) - 1)
    return [facts[i] for i in sorted(rng.sample(range(len(facts)), kept))]


def shuffle_facts(facts: list[str], rng: random.Random) -> list[str] | None:
    """Put all facts into another order; None where no other order exists.

    Example:
        >>> shuffle_facts(["A.", "B."], random.Random(0))
        ['B.', 'A.']
    """
    if len(set(facts)) < 2:
        return None
    shuffled = facts
    while shuffled == facts:
        shuffled = rng.sample(facts, len(facts))
    return shuffled


def disturb(
    teacher: Teacher, rows: list[dict], facts: dict[str, list[str]], beta: float = 0.5, seed: int = 0
) -> tuple[list[dict], dict[str, int]]:
    """Disturb the facts K of each answer in the three ways of the paper.

    Delete and shuffle are ours and seeded by row, so that they do not depend on which rows stand beside it; the false
    facts are the teacher's `revise`.

    Returns:
        Rows `{"id", "question", "aspect", "facts", "disturbed"}`, and counts of what was left out and why.
    """
    if not 0 < beta <= 1:
        raise ValueError(f"beta is {beta}; it is the share of facts to delete: give a number above 0, at most 1.")
    asked = [
        (row["id"], {"question": row["question"], "facts": facts[row["id"]]}) for row in rows if facts.get(row["id"])
    ]
    with progress("teacher: revise", len(asked)) as tick:
        revised = teacher.map(REVISE, asked, of_calls(tick))
    pairs, one_fact = [], 0
    for (name, inputs), reply in zip(asked, revised, strict=True):
        disturbed = {
            "completeness": delete_facts(inputs["facts"], beta, random.Random(f"{seed} delete {name}")),
            "factuality": reply.facts if reply is not None else None,
            "logicality": shuffle_facts(inputs["facts"], random.Random(f"{seed} shuffle {name}")),
        }
        one_fact += disturbed["logicality"] is None
        pairs += [
            {"id": name, "question": inputs["question"], "aspect": aspect, "facts": inputs["facts"], "disturbed": worse}
            for aspect, worse in disturbed.items()
            if worse is not None
        ]
    return pairs, {
        "answers": len(rows),
        "without a fact": len(rows) - len(asked),
        "one fact, nothing to delete or shuffle": one_fact,
        "revise quarantined": sum(reply is None for reply in revised),
    }


def word_answers(
    teacher: Teacher, pairs: list[dict], rejected: str = "concatenated"
) -> tuple[list[dict], dict[str, int]]:
    """Give each pair its two texts: the preferred answer is a rephrasing of K, the rejected one holds the disturbed K.

    Args:
        rejected: "concatenated" joins the disturbed facts, as the paper says; "rephrased" sends them through the same
            rephrasing as the preferred answer, so that the two differ in their facts and not in their style.

    Returns:
        The pairs with "chosen" and "rejected", and counts; a pair whose rephrasing is in quarantine is left out.
    """
    if rejected not in ("concatenated", "rephrased"):
        raise ValueError(f"rejected is {rejected!r}; use 'concatenated' or 'rephrased'.")
    chosen = _rephrase(teacher, [(pair["id"], pair["question"], pair["facts"]) for pair in pairs], "preferred")
    if rejected == "concatenated":
        worse = [" ".join(pair["disturbed"]) for pair in pairs]
    else:
        items = [(f"{pair['id']}.{pair['aspect']}", pair["question"], pair["disturbed"]) for pair in pairs]
        worse = _rephrase(teacher, items, "rejected")
    worded = [
        {**pair, "chosen": good, "rejected": bad}
        for pair, good, bad in zip(pairs, chosen, worse, strict=True)
        if good is not None and bad is not None and good != bad
    ]
    counts = {f"pairs: {aspect}": sum(pair["aspect"] == aspect for pair in worded) for aspect in ASPECTS}
    return worded, {**counts, "pairs left out": len(pairs) - len(worded)}


def _rephrase(teacher: Teacher, items: list[tuple[str, str, list[str]]], which: str) -> list[str | None]:
    asked = [(name, {"question": question, "facts": facts}) for name, question, facts in items]
    with progress(f"teacher: rephrase the {which} answers", len(asked)) as tick:
        replies = teacher.map(REPHRASE, asked, of_calls(tick))
    return [reply.answer if reply is not None else None for reply in replies]

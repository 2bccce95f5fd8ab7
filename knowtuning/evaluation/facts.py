"""Exact scores of an answer in the lab, where every fact is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from knowtuning.lab.world import World


def score_answer(world: World, entity: str, answer: str, asked: Sequence[str] | None = None) -> dict:
    """Count what one answer says about `entity`: right, wrong, unreadable, and in which order.

    `asked` are the relations that the question is about; None: all of the world.

    Returns one flat row; shares run from 0 to 1:
        correct       distinct true facts that were asked for; said again, a true fact counts under `repeated` only
        unasked       distinct true facts that were not asked for
        incorrect     statements that are false or unreadable, each time they are said
        unreadable    those of the incorrect ones that no sentence of the world fits
        completeness  correct / number of relations asked for
        precision     correct / (correct + incorrect); None for an answer that says nothing
        order         see `order_of`
        words, tier   length of the answer; how often the base has met the entity

    An entity that is not of this world raises `ValueError`.

    >>> world = World.load("medical")
    >>> name = world.entities[0]
    >>> score_answer(world, name, world.sentence(name, "cause") + " Hello there.")["precision"]
    0.5
    """
    if entity not in world.facts:
        raise ValueError(f"{entity!r} is not an entity of this world; its answers cannot be scored.")
    statements = world.parse(answer, entity)
    true = [statement.relation for statement in statements if statement.correct]
    wanted = set(world.relation if asked is None else asked)
    correct, incorrect = len(wanted.intersection(true)), len(statements) - len(true)
    said = correct + incorrect
    return {
        "entity": entity,
        "tier": world.tier[entity],
        "correct": correct,
        "unasked": len(set(true) - wanted),
        "incorrect": incorrect,
        "unreadable": sum(statement.relation is None for statement in statements),
        "repeated": len(true) - len(set(true)),
        "completeness": correct / len(wanted),
        "precision": correct / said if said else None,
        "order": order_of([s.relation for s in statements if s.relation], [r.key for r in world.relations]),
        "words": len(answer.split()),
    }


def missing(world: World, entity: str, answer: str) -> list[str]:
    """What could have been said of `entity` and was not, or not rightly: the aspects, in logical order."""
    told = {statement.relation for statement in world.parse(answer, entity) if statement.correct}
    return [relation.aspect for relation in world.relations if relation.key not in told]


def order_of(said: Sequence[str], logical: Sequence[str]) -> float | None:
    """Share of pairs of relations that an answer says in their logical order.

    A relation stands where it is said first, be what is said of it true or false: order is a matter of form. The value
    is (1 + Kendall's tau) / 2; None for fewer than two relations, where there is no pair.

    >>> order_of(["cause", "part", "sign"], ["part", "cause", "sign"])
    0.6666666666666666
    """
    place = {relation: number for number, relation in enumerate(logical)}
    pairs = list(combinations([place[relation] for relation in dict.fromkeys(said)], 2))
    return sum(first < second for first, second in pairs) / len(pairs) if pairs else None


def f1(correct: int, incorrect: int, sayable: int) -> float:
    """F1 of the facts of one answer against all that could be said: 2 correct / (correct + incorrect + sayable).

    Precision alone rises with silence: whoever says only the surest fact scores 1. Here one more statement raises the
    score whenever it is true with a chance above F1 / 2, so leaving out what is more likely true than false never pays.

    >>> f1(correct=1, incorrect=0, sayable=8) < f1(correct=5, incorrect=3, sayable=8)
    True
    """
    if min(correct, incorrect) < 0 or not correct <= sayable or sayable < 1:
        raise ValueError(f"{correct} correct and {incorrect} incorrect of {sayable} sayable facts cannot be.")
    return 2 * correct / (correct + incorrect + sayable)


def summarise(rows: Iterable[dict]) -> dict:
    """Summarise rows of `score_answer`, overall and by tier: `{"overall": {…}, "by_tier": {tier: {…}}}`.

    Counts, completeness, order and words are means per answer, an empty answer included (`empty` of the `n`); order is
    the mean over the `n_order` answers that have a pair. `percent_correct` is pooled: 100 x all correct / all said.
    Read it by tier: an arm that says more about well-known entities gains overall without a truer word.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("no scored answers to summarise; score at least one.")
    tiers = dict.fromkeys(row["tier"] for row in rows)
    return {
        "overall": _summary(rows),
        "by_tier": {tier: _summary([row for row in rows if row["tier"] == tier]) for tier in tiers},
    }


def _summary(rows: list[dict]) -> dict:
    said = sum(row["correct"] + row["incorrect"] for row in rows)
    ordered = [row["order"] for row in rows if row["order"] is not None]
    counts = ("correct", "incorrect", "unreadable", "repeated", "completeness", "words")
    return {
        "n": len(rows),
        "empty": sum(row["words"] == 0 for row in rows),
        **{name: sum(row[name] for row in rows) / len(rows) for name in counts},
        "percent_correct": 100 * sum(row["correct"] for row in rows) / said if said else None,
        "order": sum(ordered) / len(ordered) if ordered else None,
        "n_order": len(ordered),
    }

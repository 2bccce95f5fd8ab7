"""The paper's pairwise judge, win, tie or lose on three aspects, and what the judge itself is worth.

Each pair is shown in both orders. Where the truth is known, as in the lab, the judge is measured (`measure`).
Verdicts are those of the first arm: "win" is its win.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from knowtuning.evaluation.stats import ratio_interval
from knowtuning.knowledge.aspects import ASPECTS
from knowtuning.progress import of_calls, progress
from knowtuning.teacher.prompts import JUDGE

if TYPE_CHECKING:
    from knowtuning.teacher.client import Teacher

VERDICTS = ("win", "tie", "lose")
# What decides an aspect where the facts are counted; higher is better.
DECIDES = {"completeness": "correct", "factuality": "precision", "logicality": "order"}


def judge_pairs(
    teacher: Teacher, rows: Sequence[dict], others: Sequence[dict], references: Mapping[str, str]
) -> list[dict]:
    """Ask a judge which of two arms' answers is better, question by question and in both orders.

    Args:
        rows, others: `{"id", "question", "answer"}` of the two arms, the same questions in the same order.
        references: the reference answers by id; a question that has none is judged without.

    Returns:
        One row per question and aspect:
        id, aspect
        verdict     of `rows`: "win", "tie" or "lose"; two orders that disagree make a tie; None where a reply could
                    not be read (it is in quarantine), which is no tie
        orders      the verdict of `rows` when shown first and when shown second, None where it could not be read
        consistent  whether both orders were read and agree
        identical   whether the two answers are the same text: a tie for which nobody was asked
        words       length of the two answers
    """
    if [row["id"] for row in rows] != [row["id"] for row in others]:
        raise ValueError("a judge compares two arms on the same questions; their ids differ or stand in another order.")
    if len({row["id"] for row in rows}) < len(rows):
        raise ValueError("an id stands twice among the answers of one arm; give one answer per question.")
    pairs = list(zip(rows, others, strict=True))
    requests = [
        request
        for row, other in pairs
        if row["answer"] != other["answer"]
        for request in _both_orders(row, other, references.get(row["id"], ""))
    ]
    with progress("teacher: judge", len(requests)) as tick:
        replies = iter(teacher.map(JUDGE, requests, of_calls(tick)))
    verdicts = []
    for row, other in pairs:
        both = None if row["answer"] == other["answer"] else (next(replies), next(replies))
        verdicts += [_verdict(row, other, aspect, both) for aspect in ASPECTS]
    return verdicts


def summarise_verdicts(verdicts: Sequence[dict]) -> list[dict]:
    """One row per aspect: counts of win, tie, lose and unreadable, which add up to n, and their shares (0 to 1) of n.

    Of the ties, `inconsistent` came of two orders that disagree and `identical` of two answers that are one text.
    """
    rows = []
    for aspect, part in _by_aspect(verdicts).items():
        counts = {name: sum(row["verdict"] == name for row in part) for name in VERDICTS}
        counts["unreadable"] = sum(row["verdict"] is None for row in part)
        counts["inconsistent"] = sum(row["verdict"] is not None and not row["consistent"] for row in part)
        counts["identical"] = sum(row["identical"] for row in part)
        shares = {f"{name}_share": count / len(part) for name, count in counts.items()}
        rows.append({"aspect": aspect, "n": len(part), **counts, **shares})
    return rows


def true_verdict(row: dict, other: dict, aspect: str) -> str:
    """Which of two scored answers is truly better in one aspect: the verdict of `row`, with equal as a tie.

    Args:
        row, other: rows of `facts.score_answer`. Completeness is decided by `correct` (distinct true facts), factuality
            by `precision`, logicality by `order`. An answer that states nothing has no precision, and one that states
            fewer than two facts no order: the aspect is then a tie.

    >>> true_verdict({"correct": 5}, {"correct": 3}, "completeness")
    'win'
    """
    field = DECIDES[aspect]
    for answer in (row, other):
        if field not in answer:
            raise ValueError(f"answer {answer.get('id')!r} has no {field!r}; {aspect} is known of scored answers only.")
    value, compared = row[field], other[field]
    if value is None or compared is None or value == compared:
        return "tie"
    return "win" if value > compared else "lose"


def true_verdicts(verdicts: Sequence[dict], rows: Sequence[dict], others: Sequence[dict]) -> list[str]:
    """The truth of each verdict of `judge_pairs`, in their order, from the scored answers of the two arms."""
    own, compared = ({row["id"]: row for row in part} for part in (rows, others))
    return [true_verdict(own[row["id"]], compared[row["id"]], row["aspect"]) for row in verdicts]


def measure(
    verdicts: Sequence[dict], truth: Sequence[str], resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> dict[str, dict]:
    """What a judge is worth, per aspect, with intervals by bootstrap over questions (all pairs of one id together).

    Let v be the verdict of a pair, v1 and v2 those of its two orders, t its truth (`true_verdicts`, one per verdict).
    Pairs of one text were not judged and are left out. An unreadable verdict is never right, but for the biases and
    `inconsistent`, which are of the pairs read in both orders.

        agreement          share of v = t
        sensitivity        share of v = t where t is not a tie: truly better answers called better
        specificity_equal  share of v = tie where t is a tie: truly equal pairs called equal
        specificity_worse  share of v = t or v = tie where t is not a tie: truly worse answers not called better
        inconsistent       share of v1 != v2
        position_bias      share of single verdicts for the first place among those that are no tie, minus 1/2
        length_bias_tied   of truly tied pairs of different length: the longer answer's win rate by v, minus 1/2

    A judge that errs at random moves win rates towards 1/2; only of pairs that are truly tied is a taste for length
    free of that.

    Returns:
        `{aspect: {"pairs", "identical", "unreadable", measure: {"value", "low", "high", "of", "questions"}}}`: shares
        from 0 to 1, biases from -1/2 to 1/2, None where nothing can be counted; `of` is the denominator.
    """
    if len(verdicts) != len(truth) or not set(truth) <= set(VERDICTS):
        raise ValueError(f"give one truth per verdict, each of {', '.join(VERDICTS)}; see `true_verdicts`.")
    measured = {}
    for aspect in _by_aspect(verdicts):
        pairs = [(row, true) for row, true in zip(verdicts, truth, strict=True) if row["aspect"] == aspect]
        judged = [(row, true) for row, true in pairs if not row["identical"]]
        measured[aspect] = {
            "pairs": len(pairs),
            "identical": len(pairs) - len(judged),
            "unreadable": sum(row["verdict"] is None for row, _ in judged),
        }
        for name, count in _MEASURES.items():
            by_question: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
            for row, true in judged:
                by_question[row["id"]] += count(row, true)
            sums = [tuple(pair) for pair in by_question.values()]
            share = ratio_interval(sums, resamples, seed, level)
            ends = {key: share[key] for key in ("value", "low", "high")}
            measured[aspect][name] = {**ends, "of": int(sum(of for _, of in sums)), "questions": len(sums)}
    return measured


def _both_orders(row: dict, other: dict, reference: str) -> list[tuple[str, dict]]:
    """The two requests of a pair; ids hold a digest of the answers, as an id is judged in more than one comparison."""
    asked = {"question": row["question"], "reference": reference}
    digest = hashlib.sha256(f"{row['answer']}\0{other['answer']}".encode()).hexdigest()[:8]
    return [
        (f"{row['id']} {digest} first", asked | {"first": row["answer"], "second": other["answer"]}),
        (f"{row['id']} {digest} second", asked | {"first": other["answer"], "second": row["answer"]}),
    ]


def _verdict(row: dict, other: dict, aspect: str, replies: tuple | None) -> dict:
    """The verdict on one pair in one aspect, from the replies to both orders; None: the answers are one text."""
    orders = ["tie", "tie"] if replies is None else [_of_rows(reply, aspect, at) for at, reply in enumerate(replies)]
    consistent = None not in orders and orders[0] == orders[1]
    return {
        "id": row["id"],
        "aspect": aspect,
        "verdict": None if None in orders else orders[0] if consistent else "tie",
        "orders": orders,
        "consistent": consistent,
        "identical": replies is None,
        "words": [len(answer["answer"].split()) for answer in (row, other)],
    }


def _of_rows(reply: object | None, aspect: str, place: int) -> str | None:
    """The verdict of the arm that was shown at `place` (0 or 1)."""
    if reply is None:
        return None
    better = getattr(reply, aspect)
    return "tie" if better == "tie" else "win" if better == ("first", "second")[place] else "lose"


def _by_aspect(verdicts: Sequence[dict]) -> dict[str, list[dict]]:
    parts = {aspect: [row for row in verdicts if row["aspect"] == aspect] for aspect in ASPECTS}
    return {aspect: part for aspect, part in parts.items() if part}


# --- measures: (numerator, denominator) of one pair


def _share(hit: bool, among: bool = True) -> tuple[float, float]:
    return float(hit and among), float(among)


def _position(row: dict, true: str) -> tuple[float, float]:
    """The arm is shown first and then second: its win is then one for the first place, and next for the second."""
    first, second = row["orders"] if row["verdict"] else ("tie", "tie")
    decisive = (first != "tie") + (second != "tie")
    return (first == "win") + (second == "lose") - decisive / 2, decisive


def _length(row: dict, true: str) -> tuple[float, float]:
    first, second = row["words"]
    if row["verdict"] is None or first == second or true != "tie":
        return 0.0, 0.0
    half = {"win": 0.5, "tie": 0.0, "lose": -0.5}[row["verdict"]]
    return half if first > second else -half, 1.0


_MEASURES: dict[str, Callable[[dict, str], tuple[float, float]]] = {
    "agreement": lambda row, true: _share(row["verdict"] == true),
    "sensitivity": lambda row, true: _share(row["verdict"] == true, true != "tie"),
    "specificity_equal": lambda row, true: _share(row["verdict"] == true, true == "tie"),
    "specificity_worse": lambda row, true: _share(row["verdict"] in (true, "tie"), true != "tie"),
    "inconsistent": lambda row, true: _share(not row["consistent"], row["verdict"] is not None),
    "position_bias": _position,
    "length_bias_tied": _length,
}

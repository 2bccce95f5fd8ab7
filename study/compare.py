"""What the study measures of answers, and how two arms of one domain are compared over cells and questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from knowtuning.evaluation.judge import DECIDES
from study.seeds import Paired, crossed

Fields = Mapping[str, np.ndarray]  # of one arm: name -> (cells, questions), NaN where an answer has no value


def _f1(fields: Fields) -> np.ndarray:
    """Harmonic mean of precision and completeness, 0 where nothing true is told: saying little does not win."""
    precision, recall = np.nan_to_num(fields["precision"]), fields["completeness"]
    both = precision + recall
    return 100 * np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)


# "% correct" is pooled: 100 x the correct facts of a cell / all facts told in it.
METRICS: dict[str, Callable[[Fields], np.ndarray]] = {
    "correct facts": lambda fields: fields["correct"],
    "incorrect facts": lambda fields: fields["incorrect"],
    "all facts": lambda fields: fields["correct"] + fields["incorrect"],
    "% correct": lambda fields: 100 * fields["correct"],
    "completeness": lambda fields: 100 * fields["completeness"],
    "order": lambda fields: 100 * fields["order"],
    "F1": _f1,
    "METEOR": lambda fields: 100 * fields["meteor"],
    "BERTScore": lambda fields: 100 * fields["bertscore"],
    "words": lambda fields: fields["words"],
}
POOLED = "% correct"
FACTS = ("correct facts", "incorrect facts", POOLED)  # what is also shown by tier
NEEDS = {"METEOR": "meteor", "BERTScore": "bertscore"}


def measured(fields: Fields) -> list[str]:
    """The metrics that these answers have."""
    return [name for name in METRICS if NEEDS.get(name, "correct") in fields]


def value(metric: str, fields: Fields) -> float | None:
    """Mean over all the answers given, or their pooled ratio; None where no answer has a value."""
    values = METRICS[metric](fields)
    over = fields["correct"] + fields["incorrect"] if metric == POOLED else ~np.isnan(values)
    return float(np.nansum(values) / over.sum()) if over.sum() else None


def difference(metric: str, first: Fields, second: Fields, bases: list[int]) -> dict:
    """`crossed` of first - second; `bases` names the base seed of each cell."""
    values = [METRICS[metric](fields) for fields in (first, second)]
    told = [fields["correct"] + fields["incorrect"] for fields in (first, second)] if metric == POOLED else []
    return crossed(Paired(*values, *told), bases)


def wins(aspect: str, first: Fields, second: Fields) -> np.ndarray:
    """Which answer is better by the lab's truth, per cell and question: 1 the first, -1 the second, 0 a tie.

    Completeness: more distinct correct facts. Factuality: the larger share of correct statements. Logicality: the
    better order. Where either answer says too little to have a share or an order, the pair ties.
    """
    ahead = np.nan_to_num(first[DECIDES[aspect]] - second[DECIDES[aspect]])
    return np.where(np.abs(ahead) < 1e-9, 0, np.sign(ahead)).astype(int)


def net_wins(won: np.ndarray, bases: list[int]) -> dict:
    """`crossed` of share won - share lost, in points of 100, from `wins`."""
    return crossed(Paired(100.0 * (won > 0), 100.0 * (won < 0)), bases)

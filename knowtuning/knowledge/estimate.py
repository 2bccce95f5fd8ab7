"""What the teacher will cost on all rows, from a sample of them that is really asked: calls, tokens, dollars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from knowtuning.knowledge.pipeline import rehearse
from knowtuning.teacher.budget import Price
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.prompts import EXTRACT, REPHRASE, REVISE, REWRITE, Task
from knowtuning.teacher.record import Paid, cache_key

CONFIDENCE = 0.95
TASKS = (EXTRACT, REWRITE, REVISE, REPHRASE)


class Range(NamedTuple):
    """An expected value with the ends of its interval."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """Ranges by stage ("extract", …, "total") and count ("calls", "prompt_tokens", "completion_tokens", "dollars").

    `rows` are all rows, `sample` those that were asked; `dollars` are missing where the model has no known price.
    """

    rows: int
    sample: int
    stages: dict[str, dict[str, Range]]


def estimate(
    teacher: Teacher,
    rows: list[dict],
    sample: int = 60,
    alpha: float = 0.5,
    seed: int = 0,
    price: Price | None = None,
    batch: bool = False,
) -> Estimate:
    """Ask the teacher about a sample of QA rows and extrapolate to all of them, stage by stage.

    The sampled calls are real, are paid once and stay on record for the run itself. Rows are drawn in proportion to
    their size; the totals are those of a regression estimator over length (Särndal, Swensson and Wretman, Model
    Assisted Survey Sampling, section 6.4) with 95 % intervals by the jackknife.
    """
    if not rows:
        raise ValueError("there is no row to estimate from; give at least one.")
    drawn = Sample(np.array([len(row["question"]) + len(row["answer"]) for row in rows], dtype=float), sample, seed)
    account = _Account(teacher)
    rehearse(account, [rows[place] for place in np.unique(drawn.places)], alpha, seed)
    paid = {}
    for task in TASKS:
        of_rows = [account.paid.get((task.name, rows[place]["id"]), Paid()) for place in drawn.places]
        prompt, completion, replies = np.array(of_rows, dtype=float).T
        paid[task.name] = {"calls": replies, "prompt_tokens": prompt, "completion_tokens": completion}
        if price is not None:
            paid[task.name]["dollars"] = price.dollars(prompt, completion, batch)
    paid["total"] = {count: sum(paid[task.name][count] for task in TASKS) for count in paid[EXTRACT.name]}
    stages = {name: {count: drawn.total(values) for count, values in counts.items()} for name, counts in paid.items()}
    return Estimate(len(rows), len(drawn.places), stages)


class _Account:
    """A teacher that passes rows on, and notes what each has `paid` for by (name of the task, id)."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.paid = teacher, {}

    def map(self, task: Task, rows: list[tuple[str, dict]], progress: Callable | None = None) -> list:
        replies = self.teacher.map(task, rows, progress)
        for name, inputs in rows:
            key = cache_key(task, inputs, self.teacher.model, self.teacher.sampling)
            self.paid[task.name, name] = self.teacher.record.paid(key)
        return replies


class Sample:
    """`places` of rows drawn in proportion to their size, and totals over all rows from what is known of these.

    Every call carries the instructions, so a row's size is its length plus theirs. A sample as large as the whole is
    the whole, and its totals are exact.

    >>> Sample(np.array([5.0, 1.0, 9.0]), 10, seed=0).total(np.array([1.0, 2.0, 3.0]))
    Range(expected=6.0, low=6.0, high=6.0)
    """

    def __init__(self, lengths: np.ndarray, sample: int, seed: int) -> None:
        self.lengths = lengths
        size = lengths + len(EXTRACT.system)
        if sample >= len(lengths):
            self.places, self._weights = np.arange(len(lengths)), np.ones(len(lengths))
        else:
            order = np.argsort(lengths, kind="stable")  # sorted, so that the sample is spread over the lengths
            start = np.random.default_rng(seed).random()
            marks = (np.arange(sample) + start) * size.sum() / sample
            self.places = order[np.searchsorted(size[order].cumsum(), marks, side="right")]
            self._weights = size.sum() / (sample * size[self.places])

    def total(self, values: np.ndarray) -> Range:
        """The total over all rows of something known for the sampled ones (shape: sample)."""
        count = len(values)
        if count == len(self.lengths):
            return Range(*[float(values.sum())] * 3)
        everyone = np.arange(count)
        expected = self._regression(values, everyone)
        if count < 4:
            return Range(expected, 0.0, float("inf"))
        # the jackknife feels how much a single long row pulls at the line, which the line's own residuals do not
        without_one = np.array([self._regression(values, np.delete(everyone, place)) for place in everyone])
        # Student's t, by the first term of its expansion around the normal quantile: SciPy is an extra
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
        margin = float((z + (z**3 + z) / (4 * (count - 2))) * np.sqrt((count - 1) * without_one.var()))
        return Range(expected, max(0.0, expected - margin), expected + margin)

    def _regression(self, values: np.ndarray, used: np.ndarray) -> float:
        """The total by some of the sampled rows: a line over all lengths, and the weighted rest of those rows."""
        known, values = self.lengths[self.places][used], values[used]
        weights = self._weights[used] * len(self._weights) / len(used)
        slope, intercept = np.polyfit(known, values, 1, w=np.sqrt(weights)) if np.ptp(known) else (0.0, values.mean())
        left_over = values - intercept - slope * known
        return float(intercept * len(self.lengths) + slope * self.lengths.sum() + (weights * left_over).sum())

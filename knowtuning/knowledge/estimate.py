"""What the teacher will cost on all rows, from a sample of them that is really asked: calls, tokens, dollars."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from knowtuning.knowledge.stages import STAGES, Trail, run_stages
from knowtuning.teacher.budget import Price
from knowtuning.teacher.client import Teacher

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Range:
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
    survey = Survey(np.array([len(row["question"]) + len(row["answer"]) for row in rows], dtype=float), sample, seed)
    trails = run_stages(teacher, [rows[place] for place in survey.chosen], alpha, seed)
    paid = {task.name: _paid(trails, task.name, price, batch) for task in STAGES}
    paid["total"] = {count: sum(paid[task.name][count] for task in STAGES) for count in paid[STAGES[0].name]}
    stages = {name: {count: survey.total(values) for count, values in counts.items()} for name, counts in paid.items()}
    return Estimate(len(rows), len(survey.chosen), stages)


class Survey:
    """A sample of rows drawn in proportion to their size, and totals over all rows from what is known of it.

    Every call carries the instructions, so a row's size is its length plus theirs. A sample as large as the whole is
    the whole, and its totals are exact.

    >>> Survey(np.array([5.0, 1.0, 9.0]), 10, seed=0).total(np.array([1.0, 2.0, 3.0]))
    Range(expected=6.0, low=6.0, high=6.0)
    """

    def __init__(self, lengths: np.ndarray, sample: int, seed: int) -> None:
        self.lengths = lengths
        size = lengths + len(STAGES[0].system)
        if sample >= len(lengths):
            self.chosen, self._weights = np.arange(len(lengths)), np.ones(len(lengths))
        else:
            order = np.argsort(lengths, kind="stable")  # sorted, so that the sample is spread over the lengths
            start = np.random.default_rng(seed).random()
            marks = (np.arange(sample) + start) * size.sum() / sample
            self.chosen = order[np.searchsorted(size[order].cumsum(), marks, side="right")]
            self._weights = size.sum() / (sample * size[self.chosen])

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
        without_one = np.array([self._regression(values, everyone[everyone != place]) for place in everyone])
        spread = np.sqrt((count - 1) * without_one.var())
        margin = float(_t_quantile(count - 2) * spread)
        return Range(expected, max(0.0, expected - margin), expected + margin)

    def _regression(self, values: np.ndarray, used: np.ndarray) -> float:
        """The total by some of the sampled rows: a line over all lengths, and the weighted rest of those rows."""
        known, values = self.lengths[self.chosen][used], values[used]
        weights = self._weights[used] * len(self._weights) / len(used)
        slope, intercept = np.polyfit(known, values, 1, w=np.sqrt(weights)) if np.ptp(known) else (0.0, values.mean())
        left_over = values - intercept - slope * known
        return float(intercept * len(self.lengths) + slope * self.lengths.sum() + (weights * left_over).sum())


def _t_quantile(freedom: int) -> float:
    """Student's t for the two-sided confidence, by the first term of its expansion around the normal quantile."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return z + (z**3 + z) / (4 * freedom)


def _paid(trails: list[Trail], task: str, price: Price | None, batch: bool) -> dict[str, np.ndarray]:
    """What each sampled row cost in one stage, by count."""
    paid = [trail.paid[task] for trail in trails]
    counts = {
        "calls": np.array([each.replies for each in paid], dtype=float),
        "prompt_tokens": np.array([each.prompt_tokens for each in paid], dtype=float),
        "completion_tokens": np.array([each.completion_tokens for each in paid], dtype=float),
    }
    if price is not None:
        counts["dollars"] = price.dollars(counts["prompt_tokens"], counts["completion_tokens"], batch)
    return counts

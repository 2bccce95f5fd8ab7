"""How sure a difference between two arms is, when both the trainings and the questions could have been others."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

LEVEL = 0.95
ENDS = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]


@dataclass(frozen=True)
class Paired:
    """One metric of two arms in the same cells (trainings) on the same questions, to be compared as a - b.

    Every array is (cells, questions); NaN where there is no value. Without `a_of` and `b_of` the metric is a mean per
    answer. With them it is a pooled ratio, sum of `a` / sum of `a_of` in each cell: for "% correct", `a` is 100 x the
    correct facts and `a_of` all facts told. Shapes that differ, or no cell, raise `ValueError`.
    """

    a: np.ndarray
    b: np.ndarray
    a_of: np.ndarray | None = None
    b_of: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.a_of is None) != (self.b_of is None):
            raise ValueError("a ratio needs denominators of both arms; got those of one.")
        shapes = {np.shape(part) for part in (self.a, self.b, self.a_of, self.b_of) if part is not None}
        shape = next(iter(shapes))
        if len(shapes) > 1 or len(shape) != 2 or 0 in shape:
            raise ValueError(f"paired arms need arrays of one shape (cells, questions); got {sorted(shapes)}.")

    def stacked(self) -> np.ndarray:
        """(4, cells, questions): a, its denominator, b, its denominator; all NaN where either arm has no value."""
        ones = np.ones(np.shape(self.a))
        parts = (self.a, ones if self.a_of is None else self.a_of, self.b, ones if self.b_of is None else self.b_of)
        stack = np.array(parts, dtype=float)
        return np.where(np.isnan(stack).any(axis=0), np.nan, stack)


def crossed(paired: Paired, groups: Sequence[Hashable] | None = None, resamples: int = 4000, seed: int = 0) -> dict:
    """Difference of two arms over cells (trainings) and questions, with a 95 % interval for each that could vary.

    The difference is the mean over cells of the cell's own difference: mean of a - mean of b, or of the pooled ratios.
    A question that lacks a value in either arm is left out of both, in that cell; a cell that has no difference (all of
    its questions lack one, or a denominator is 0) is left out whole. Both are counted. `groups` names the group of each
    cell, such as the seed of its base.

    Returns, in the units of the metric:
        difference, low, high, p  for other trainings *and* other questions
        seeds {low, high}         t-interval over the cells: these questions, other trainings; None with one cell
        questions {low, high}     percentile bootstrap over questions: these trainings, other questions
        variance                  {seed, question, residual} of one answer: see `variance_components`
        by_cell                   the difference of each cell, None where it has none
        by_group                  the mean difference of the cells of each group; {} without groups
        cells, questions_n        how many were compared; missing: pairs of answers left out

    The two-way interval is difference ± t x the standard error of a pigeonhole bootstrap, which draws cells and
    questions independently (Owen 2007). C - 1 of C cells and Q - 1 of Q questions are drawn, so that the variances of
    their means come out unbiased (Rao and Wu 1988). Such draws count the residual three times; two of them are taken
    off again, down to the larger of the two one-way variances. t has min(C, Q) - 1 degrees of freedom, as is the custom
    for two-way clusters (Cameron and Miller 2015): never narrower than `seeds`, too wide where questions vary most.
    The interval is not made of percentiles, for with few cells those cannot leave the range of the cells' differences:
    where 95 % was asked, they covered 89 % with 5 cells that vary as the lab's do.

    With one cell nothing is known of other trainings: `seeds`, `variance` and `p` are None, and low and high are those
    of `questions`. Cells count as exchangeable; where groups differ, more cells of the same groups do not help, and
    `by_group` shows it. Resamples without any value are left out.

    Sources: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1 (2007); Rao and Wu, JASA 83 (1988);
    Cameron and Miller, Journal of Human Resources 50 (2015), VI.
    """
    parts = paired.stacked()
    if groups is not None and len(groups) != parts.shape[1]:
        raise ValueError(f"groups need one name per cell; got {len(groups)} for {parts.shape[1]} cells.")
    by_cell = _differences(np.nansum(parts, axis=2))
    compared = ~np.isnan(by_cell)
    kept, values = parts[:, compared], by_cell[compared]
    variance = variance_components(_linearised(kept, values))
    by_group = {}
    for group in dict.fromkeys(groups or ()):
        members = values[[name == group for name, used in zip(groups, compared, strict=True) if used]]
        by_group[group] = float(members.mean()) if len(members) else None
    return {
        "difference": float(values.mean()) if len(values) else None,
        **_two_way(np.nan_to_num(kept), values, variance, resamples, seed),
        "variance": variance,
        "by_cell": [None if np.isnan(value) else float(value) for value in by_cell],
        "by_group": by_group,
        "cells": len(values),
        "questions_n": int((~np.isnan(kept[0])).any(axis=0).sum()),
        "missing": int(np.isnan(parts[0]).sum()),
    }


def over_cells(values: np.ndarray) -> dict:
    """Mean of one number per cell, `difference`, with t-interval (low, high) and p; None for these with one cell."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"difference": mean, "low": None, "high": None, "p": None}
    error = float(np.std(values, ddof=1) / len(values) ** 0.5)
    return {"difference": mean, **_t_test(mean, error, len(values) - 1)}


def variance_components(values: np.ndarray) -> dict | None:
    """Variances of crossed random effects, y = mean + seed + question + residual, from moments.

    Args:
        values: (cells, questions), NaN where missing.

    Returns:
        `{"seed", "question", "residual"}`, an estimate below 0 as 0. None where the three cannot be told apart: fewer
        than two cells or two questions.

    Squares within cells, within questions and in all are equated with their expectations, which in a full table are
    the estimates of the analysis of variance. Source: Gao and Owen, Electronic Journal of Statistics 11 (2017), 3.1.
    """
    present = ~np.isnan(values)
    filled = np.where(present, values, 0.0)
    n, per_cell, per_question = present.sum(), present.sum(axis=1), present.sum(axis=0)
    if not n:
        return None
    squares = (filled**2).sum()
    within = [
        squares - (filled.sum(axis=axis)[count > 0] ** 2 / count[count > 0]).sum()
        for axis, count in ((1, per_cell), (0, per_question))
    ]
    total = squares - filled.sum() ** 2 / n
    expected = [
        [0, n - (per_cell > 0).sum(), n - (per_cell > 0).sum()],
        [n - (per_question > 0).sum(), 0, n - (per_question > 0).sum()],
        [n - (per_cell**2).sum() / n, n - (per_question**2).sum() / n, n - 1],
    ]
    if np.linalg.matrix_rank(expected) < 3:
        return None
    estimates = np.linalg.solve(expected, [*within, total])
    crumb = 1e-12 * squares  # what rounding leaves of 0
    return {
        name: float(value) if value > crumb else 0.0
        for name, value in zip(("seed", "question", "residual"), estimates, strict=True)
    }


def _two_way(sums: np.ndarray, values: np.ndarray, variance: dict | None, resamples: int, seed: int) -> dict:
    """Intervals and p of the mean over cells; `sums` is (4, cells, questions), `values` (cells,)."""
    cells, questions = sums.shape[1:]
    if not cells or questions < 2:
        nothing = {"low": None, "high": None}
        return {**nothing, "p": None, "seeds": None, "questions": nothing}
    means = _mean(_differences(sums @ _counts(questions, questions, resamples, seed).T), np.ones((resamples, cells)))
    low, high = np.nanquantile(means, ENDS)
    these = {"low": float(low), "high": float(high)}
    if cells == 1:
        return {**these, "p": None, "seeds": None, "questions": these}
    drawn = _differences(sums @ _counts(questions, questions - 1, resamples, seed).T)
    pigeonhole = np.nanvar(_mean(drawn, _counts(cells, cells - 1, resamples, seed + 1)))
    one_way = np.array([values.var(ddof=1) / cells, np.nanvar(means)])
    residual = variance["residual"] / (cells * questions) if variance else 0.0
    error = max(pigeonhole - 2 * residual, *one_way) ** 0.5
    both = _t_test(values.mean(), error, min(cells, questions) - 1)
    seeds = over_cells(values)
    return {**both, "seeds": {"low": seeds["low"], "high": seeds["high"]}, "questions": these}


@lru_cache(maxsize=12)
def _counts(units: int, draws: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, units): how often each unit is drawn. Kept, for every metric of a table asks for the same."""
    return np.random.default_rng(seed).multinomial(draws, np.full(units, 1 / units), resamples).astype(float)


def _differences(sums: np.ndarray) -> np.ndarray:
    """a / its denominator - b / its denominator, from sums (4, …); NaN where a denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = sums[0] / sums[1] - sums[2] / sums[3]
    return np.where(np.isfinite(differences), differences, np.nan)


def _mean(by_cell: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over the drawn cells of (cells, resamples), cells without a difference left out: (resamples,)."""
    weights = np.where(np.isnan(by_cell), 0.0, counts.T)
    with np.errstate(invalid="ignore"):
        return (weights * np.nan_to_num(by_cell)).sum(axis=0) / weights.sum(axis=0)


def _linearised(parts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(cells, questions): each answer's difference; of a ratio its first-order part, with the cell's own as mean."""
    a, a_of, b, b_of = parts
    linear = np.where(np.isnan(a), np.nan, values[:, None])
    for part, of, sign in ((a, a_of, 1), (b, b_of, -1)):
        total = np.nansum(of, axis=1, keepdims=True)
        n = (~np.isnan(of)).sum(axis=1, keepdims=True)
        linear = linear + sign * (part - np.nansum(part, axis=1, keepdims=True) / total * of) * n / total
    return linear


def _t_test(difference: float, error: float, df: int) -> dict:
    """Interval and two-sided p of a difference by its standard error; arms that never differ have p = 1."""
    half = stats.t.ppf((1 + LEVEL) / 2, df) * error
    p = 2 * stats.t.sf(abs(difference) / error, df) if error else float(difference == 0)
    return {"low": float(difference - half), "high": float(difference + half), "p": float(p)}

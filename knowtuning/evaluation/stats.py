"""How sure a number is: bootstrap intervals over questions, for one arm and for the difference of two."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy.stats import DegenerateDataWarning, bootstrap

Statistic = Literal["mean", "ratio"]
# One arm: a number per question, or a pair (numerator, denominator) for a pooled ratio; None where there is no value.
Values = Sequence[float | tuple[float, float] | None]

_BLOCK = 2_000_000  # values drawn at a time: 16 MB, however many questions there are


def bootstrap_difference(
    a: Values, b: Values, statistic: Statistic = "mean", resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> dict:
    """Difference `a - b` of two arms with a percentile interval, paired: whole questions are drawn with replacement.

    `a[i]` and `b[i]` belong to the same question. `statistic` is "mean" (of one number per question) or "ratio": values
    are pairs (numerator, denominator) and the statistic is sum of numerators / sum of denominators, such as all correct
    facts / all facts told.

    A question that has no value (None or NaN) in either arm is left out of both, and counted under `missing`: only such
    questions compare like with like, so the difference may differ from that of the two arms' own means.
    Resamples in which a ratio has the denominator 0 are left out of the interval.

    Returns `{"difference", "low", "high", "n", "missing"}`; n is the number of questions compared. Where no question
    is left, or an arm's denominators are all 0, difference and interval are None.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13 (percentile interval).

    >>> bootstrap_difference([1, 0, 1, 1], [0, 0, 1, 0])["difference"]
    0.5
    """
    if len(a) != len(b):
        raise ValueError(f"paired arms need the same questions; one has {len(a)} values, the other {len(b)}.")
    rows = np.concatenate([_columns(a, statistic), _columns(b, statistic)], axis=1)
    width = rows.shape[1] // 2
    result = _bootstrap(rows, lambda sums, n: _of(sums[:width], n) - _of(sums[width:], n), resamples, seed, level)
    return {"difference": result.pop("value"), **result}


def mean_interval(values: Sequence[float | None], resamples: int = 10_000, seed: int = 0, level: float = 0.95) -> dict:
    """Mean of one arm with a percentile interval over questions; missing values (None or NaN) are left out.

    Returns `{"value", "low", "high", "n", "missing"}`. Two intervals that overlap do not show that two arms are alike:
    compare arms with `bootstrap_difference`, which knows that the questions are the same.
    """
    return _bootstrap(_columns(values, "mean"), _of, resamples, seed, level)


def ratio_interval(
    pairs: Sequence[tuple[float, float] | None], resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> dict:
    """Pooled ratio of one arm, from pairs (numerator, denominator) per question; else as `mean_interval`.

    >>> ratio_interval([(3, 4), (0, 0), (5, 6)])["value"]
    0.8
    """
    return _bootstrap(_columns(pairs, "ratio"), _of, resamples, seed, level)


def _columns(values: Values, statistic: Statistic) -> np.ndarray:
    """Values as floats, (questions, 1) for a mean, (questions, 2) for a ratio; a missing value is a row of NaN."""
    if statistic not in ("mean", "ratio"):
        raise ValueError(f"statistic is {statistic!r}; use 'mean' or 'ratio'.")
    width = 1 if statistic == "mean" else 2
    rows = np.full((len(values), width), np.nan)
    for number, value in enumerate(values):
        if value is None:
            continue
        if np.size(value) != width:
            shape = "one number" if width == 1 else "a pair (numerator, denominator)"
            raise ValueError(f"question {number} has {value!r}; the statistic {statistic!r} needs {shape}.")
        rows[number] = value
    return rows


def _of(sums: Sequence[np.ndarray], n: int) -> np.ndarray:
    """The mean from [sums over n questions], the ratio from [sums of numerators, sums of denominators]."""
    if len(sums) == 1:
        return sums[0] / n
    numerator, denominator = np.asarray(sums[0]), np.asarray(sums[1])
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)


def _bootstrap(rows: np.ndarray, of: Callable, resamples: int, seed: int, level: float) -> dict:
    """Value and percentile interval of `of`, a function of column sums; `rows` is (questions, columns)."""
    kept = rows[~np.isnan(rows).any(axis=1)]
    n = len(kept)
    value = float(of(kept.sum(axis=0), n)) if n else np.nan
    if np.isnan(value):
        return {"value": None, "low": None, "high": None, "n": n, "missing": len(rows) - n}
    low = high = value
    if n > 1:
        # resamples without a value are left out below, of which scipy warns
        with warnings.catch_warnings(action="ignore", category=DegenerateDataWarning):
            drawn = bootstrap(
                tuple(kept.T),
                lambda *columns, axis: of([column.sum(axis=axis) for column in columns], n),
                paired=True,
                n_resamples=resamples,
                batch=max(1, _BLOCK // n),
                method="percentile",
                rng=np.random.default_rng(seed),
            ).bootstrap_distribution
        low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return {"value": value, "low": low, "high": high, "n": n, "missing": len(rows) - n}

"""Which of two arms gives the better answers: wins, ties and losses, with ties both ways, and at equal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import expit
from scipy.stats import binomtest

from knowtuning.evaluation.stats import ratio_interval

Verdict = Literal["win", "tie", "lose"] | None  # of the first arm; None: unreadable
POINTS = {"win": 1.0, "tie": 0.5, "lose": 0.0, None: np.nan}
PRIOR = 10.0  # standard deviation of the weak prior on intercept and slope, in logits
# (counts as a hit, is counted) of a verdict
SHARES = {
    **{name: lambda verdict, name=name: (verdict == name, 1) for name in ("win", "tie", "lose")},
    "unreadable": lambda verdict: (verdict is None, 1),
    "win rate (ties dropped)": lambda verdict: (verdict == "win", verdict in ("win", "lose")),
    "win rate (ties split)": lambda verdict: (POINTS[verdict] if verdict else 0, verdict is not None),
}


def win_tie_lose(verdicts: Sequence[Verdict], resamples: int = 10_000, seed: int = 0, level: float = 0.95) -> dict:
    """Shares of wins, ties and losses, one verdict per question.

    Returns:
        `{"win", "tie", "lose", "unreadable"}` as shares of all `n` questions, so that they sum to 1;
        `"win rate (ties dropped)"`, win / (win + lose), and `"win rate (ties split)"`, (win + tie / 2) / all readable;
        each a dict value, low, high with a percentile bootstrap interval over questions, None where undefined; and
        `"p"`, the exact two-sided sign test of win against lose, ties dropped. p is 1 where there are only ties.

    Report both rates: dropping ties makes few decided questions look like many, splitting them hides how few there are.
    """
    _points(verdicts)
    result: dict = {"n": len(verdicts)}
    for name, counted in SHARES.items():
        share = ratio_interval([counted(verdict) for verdict in verdicts], resamples, seed, level)
        result[name] = {key: share[key] for key in ("value", "low", "high")}
    return {**result, "p": sign_test(list(verdicts).count("win"), list(verdicts).count("lose"))}


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided sign test: the chance of so uneven a split of `wins + losses` fair coins; 1 without any."""
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def length_controlled(
    verdicts: Sequence,
    length_differences: Sequence,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict:
    """Win rate that the first arm would have if both answers were equally long, beside the raw one.

    Args:
        verdicts: by question, or by cell and question: all cells are pooled.
        length_differences: length of the first arm's answer less the other's, in the same shape, in any unit.

    The outcome y (win 1, tie 1/2, lose 0) is regressed by logistic regression on an intercept and
    x = tanh(difference / its standard deviation), not centred; the controlled rate is the prediction at x = 0.
    This is AlpacaEval 2's model less its terms for the difficulty of its own questions. A normal prior of 10 logits on
    both coefficients, nothing beside a hundred verdicts, keeps them finite where wins and losses do not overlap.

    Returns:
        raw         win rate with ties split
        controlled  win rate at equal length; low, high: percentile bootstrap that draws whole questions, of all cells
        slope       logits per unit of x: above 0 where longer answers win
        longer      share of verdicts where the first arm's answer is longer
        separated   whether one length parts all wins from all losses; then only the prior holds the slope, and the
                    controlled rate is a guess
        n, unreadable

    Length can lie on the way from better to winning: an answer that tells more true facts is longer for it. Controlling
    takes that gain away too, so read both rates. Where `longer` is near 0 or 1 the controlled rate is extrapolated.
    Lengths that all differ by the same amount raise `ValueError`.
    Source: Dubois et al., Length-Controlled AlpacaEval, COLM 2024, section 3.
    """
    points = np.array([_points(row) for row in verdicts] if np.ndim(verdicts) == 2 else [_points(verdicts)])
    differences = np.atleast_2d(np.array(length_differences, dtype=float))
    if points.shape != differences.shape:
        raise ValueError(f"each verdict needs its length difference; got {points.shape} and {differences.shape}.")
    readable = ~np.isnan(points)
    y, difference = points[readable], differences[readable]
    if len(y) < 2 or np.isnan(difference).any():
        raise ValueError("length control needs two readable verdicts, and a length difference for each.")
    scale = difference.std(ddof=1)
    if scale == 0 and difference[0] != 0:
        raise ValueError(f"every answer differs by {difference[0]:g} in length: there is nothing to control with.")
    x = np.tanh(difference / scale) if scale else difference
    intercept, slope = _fit(x, y, np.ones(len(y)))
    n, questions = points.shape[1], np.nonzero(readable)[1]
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    low, high = np.quantile([_fit(x, y, times[questions])[0] for times in drawn], [(1 - level) / 2, (1 + level) / 2])
    wins, losses = x[y > 0], x[y < 1]  # a tie is both
    apart = not len(wins) or not len(losses) or wins.min() >= losses.max() or losses.min() >= wins.max()
    rates = dict(zip(("controlled", "low", "high"), expit([intercept, low, high]).tolist(), strict=True))
    return {
        "raw": float(y.mean()),
        **rates,
        "slope": float(slope),
        "longer": float((difference > 0).mean()),
        "separated": bool(apart),
        "n": len(y),
        "unreadable": int((~readable).sum()),
    }


def _fit(x: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Intercept and slope of a logistic regression in which every verdict stands `times` times.

    A tie is half a win and half a loss; with the intercept as a column, the prior holds it too.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    columns = np.tile(np.column_stack([np.ones_like(x), x]), (2, 1))
    outcome, weight = np.repeat([1, 0], len(y)), np.concatenate([times * y, times * (1 - y)])
    used = weight > 0
    if len(set(outcome[used])) < 2:  # scikit-learn fits two outcomes only; a feather's weight changes nothing else
        weight, used = weight + 1e-9, weight >= 0
    regression = LogisticRegression(C=PRIOR**2, fit_intercept=False, solver="newton-cg", tol=1e-8, max_iter=1000)
    return regression.fit(columns[used], outcome[used], weight[used]).coef_[0]


def _points(verdicts: Sequence[Verdict]) -> np.ndarray:
    """Verdicts as points: win 1, tie 1/2, lose 0, None NaN."""
    for verdict in verdicts:
        if not isinstance(verdict, str | None) or verdict not in POINTS:
            raise ValueError(f"give one verdict per question, each 'win', 'tie', 'lose' or None; got {verdict!r}.")
    return np.array([POINTS[verdict] for verdict in verdicts])

"""Which of two arms gives the better answers: wins, ties and losses, with ties both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import binomtest

Verdict = Literal["win", "tie", "lose"] | None  # of the first arm; None: unreadable
OUTCOMES = {"win": 1.0, "tie": 0.0, "lose": -1.0, None: np.nan}


def outcomes(verdicts: Sequence) -> np.ndarray:
    """Verdicts as numbers: win 1, tie 0, lose -1, None NaN."""
    unknown = [verdict for verdict in verdicts if not isinstance(verdict, str | None) or verdict not in OUTCOMES]
    if unknown:
        raise ValueError(f"verdicts are 'win', 'tie', 'lose' or None, one per question; got {unknown[0]!r}.")
    return np.array([OUTCOMES[verdict] for verdict in verdicts])


def win_tie_lose(verdicts: Sequence[Verdict], resamples: int = 10_000, seed: int = 0, level: float = 0.95) -> dict:
    """Shares of wins, ties and losses of one cell, one verdict per question.

    Returns:
        `{"win", "tie", "lose", "unreadable"}` as shares of all `n` questions, so that they sum to 1;
        `"win rate (ties dropped)"`, win / (win + lose), and `"win rate (ties split)"`, (win + tie / 2) / all readable;
        each a dict value, low, high with a percentile bootstrap interval over questions, None where undefined; and
        `"p"`, the exact two-sided sign test of win against lose, ties dropped. p is 1 where there are only ties.

    Report both rates: dropping ties makes few decided questions look like many, splitting them hides how few there are.
    """
    values = outcomes(verdicts)
    if not len(values):
        raise ValueError("win_tie_lose takes one verdict per question, and at least one.")
    counts = np.array([(values == 1).sum(), (values == 0).sum(), (values == -1).sum(), np.isnan(values).sum()])
    # Drawing n questions with replacement is drawing the four counts from a multinomial.
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), resamples)
    found, ends = _shares(counts), np.array([(1 - level) / 2, (1 + level) / 2])
    result: dict = {"n": len(values)}
    for name, shares in _shares(drawn).items():
        if np.isnan(found[name]):
            result[name] = {"value": None, "low": None, "high": None}
        else:
            low, high = np.nanquantile(shares, ends)
            result[name] = {"value": float(found[name]), "low": float(low), "high": float(high)}
    return {**result, "p": sign_test(int(counts[0]), int(counts[2]))}


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided sign test: the chance of so uneven a split of `wins + losses` fair coins; 1 without any."""
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _shares(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Shares from counts (…, 4) of win, tie, lose, unreadable; NaN where the denominator is 0."""
    win, tie, lose, unreadable = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    n = win + tie + lose + unreadable
    with np.errstate(invalid="ignore"):
        return {
            "win": win / n,
            "tie": tie / n,
            "lose": lose / n,
            "unreadable": unreadable / n,
            "win rate (ties dropped)": win / (win + lose),
            "win rate (ties split)": (win + tie / 2) / (win + tie + lose),
        }

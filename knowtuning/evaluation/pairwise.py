"""Which of two arms gives the better answers: wins, ties and losses, with ties both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import binomtest

from knowtuning.evaluation.stats import ratio_interval

Verdict = Literal["win", "tie", "lose"] | None  # of the first arm; None: unreadable
POINTS = {"win": 1.0, "tie": 0.5, "lose": 0.0, None: np.nan}
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


def _points(verdicts: Sequence[Verdict]) -> np.ndarray:
    """Verdicts as points: win 1, tie 1/2, lose 0, None NaN."""
    for verdict in verdicts:
        if not isinstance(verdict, str | None) or verdict not in POINTS:
            raise ValueError(f"give one verdict per question, each 'win', 'tie', 'lose' or None; got {verdict!r}.")
    return np.array([POINTS[verdict] for verdict in verdicts])

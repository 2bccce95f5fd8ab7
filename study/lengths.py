"""The win rate that an arm would have if its answers were no longer than the other's."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from study.seeds import ENDS

PRIOR = 10.0  # standard deviation of the weak prior on intercept and slope, in logits
RESAMPLES = 250  # each fits a regression
_BLOCK = 2_000_000  # weights at a time: 16 MB


def length_controlled(won: np.ndarray, longer: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """Win rate that the first arm would have if both answers were equally long, with its 95 % interval.

    Args:
        won: (cells, questions), 1 where the first arm wins, -1 where it loses, 0 for a tie; all cells are pooled.
        longer: length of the first arm's answer less the other's, in the same shape, in any unit.

    The outcome y (win 1, tie 1/2, lose 0) is regressed by logistic regression on an intercept and
    x = tanh(difference / its standard deviation), not centred; the controlled rate is the prediction at x = 0.
    This is AlpacaEval 2's model less its terms for the difficulty of its own questions. A normal prior of 10 logits on
    both coefficients, nothing beside a hundred verdicts, keeps them finite where wins and losses do not overlap.

    Returns:
        `rate_at_equal_length` with its ends `rate_low` and `rate_high`, by a percentile bootstrap that draws whole
        questions, of all cells; `longer`, the share of the games where the first arm's answer is longer.

    Length can lie on the way from better to winning: an answer that tells more true facts is longer for it. Controlling
    takes that gain away too, so read both rates. Where `longer` is near 0 or 1 the controlled rate is extrapolated.
    The interval is for these trainings. Lengths that all differ by the same amount have nothing to control with: all
    values are None. Source: Dubois et al., Length-Controlled AlpacaEval, COLM 2024, section 3.
    """
    y, difference = (won.ravel() + 1) / 2, longer.ravel().astype(float)
    scale = difference.std(ddof=1)
    if scale == 0 and difference[0] != 0:
        return dict.fromkeys(("rate_at_equal_length", "rate_low", "rate_high", "longer"))
    x = np.tanh(difference / scale) if scale else difference
    fitted = _fit(x, y, np.ones((1, len(y))), np.zeros(2))[0]
    n = won.shape[1]
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    blocks = np.array_split(counts, -(-resamples * len(y) // _BLOCK))
    drawn = np.concatenate([_fit(x, y, np.tile(block, len(won)), fitted)[:, 0] for block in blocks])
    low, high = np.quantile(expit(drawn), ENDS)
    return {
        "rate_at_equal_length": float(expit(fitted[0])),
        "rate_low": float(low),
        "rate_high": float(high),
        "longer": float((difference > 0).mean()),
    }


def _fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Intercept and slope of logistic regressions with a weak normal prior, one per row of weights: (fits, 2).

    Newton's method on all fits at once (a library's takes them one by one); a step is at most 2 logits long, so that
    none runs off where the likelihood is flat.
    """
    beta = np.tile(start, (len(weights), 1))
    for _ in range(100):
        chance = expit(beta[:, :1] + beta[:, 1:] * x)
        wrong, curved = weights * (y - chance), weights * chance * (1 - chance)
        gradient = np.stack([wrong.sum(axis=1), wrong @ x], axis=1) - beta / PRIOR**2
        a, b, c = (curved @ part for part in (np.ones_like(x), x, x * x))
        a, c = a + 1 / PRIOR**2, c + 1 / PRIOR**2
        step = np.stack([c * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]], axis=1)
        step /= (a * c - b * b)[:, None]
        beta += step / np.maximum(1, np.abs(step).max(axis=1, keepdims=True) / 2)
        if np.abs(step).max() < 1e-8:
            return beta
    raise RuntimeError("the logistic regression of wins on length did not converge in 100 steps; report the verdicts.")

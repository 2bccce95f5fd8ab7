"""How many cells and questions a difference takes to be seen, from the variances that `seeds.crossed` estimates.

A difference of two arms over C cells (trainings) and Q questions has the variance
seed / C + question / Q + residual / (C Q), and is tested by t with min(C, Q) - 1 degrees of freedom, as `crossed` does.
More questions never help against the first term, nor more cells against the second. `components` is `variance` of a
result of `crossed`, or any mapping with "seed", "question" and "residual", in squared units of the metric; with
"question" 0 the answer is for the same questions again. The components are taken as known, which those of a few cells
are not.
"""

from __future__ import annotations

from collections.abc import Mapping

from scipy import stats
from scipy.optimize import brentq

LEVEL = 0.95


def power(effect: float, components: Mapping[str, float], cells: int, questions: int) -> float:
    """Chance that the two-sided t-test at 5 % finds a true difference `effect`: noncentral t, squared.

    The chance of finding it with the wrong sign counts too, so that the power at 0 is 5 %.
    """
    error, df = _error(components, cells, questions)
    if error == 0:
        return 1.0 if effect else 1 - LEVEL
    return _chance(abs(effect) / error, df)


def minimal_difference(components: Mapping[str, float], cells: int, questions: int, power: float = 0.8) -> float:
    """The smallest true difference that is found with chance `power`, in the units of the metric."""
    error, df = _error(components, cells, questions)
    if not 1 - LEVEL < power < 1:
        raise ValueError(f"power is {power}; it lies between {1 - LEVEL:.3g}, what no difference has, and 1.")
    bound = stats.t.ppf((1 + LEVEL) / 2, df)
    return float(error * brentq(lambda shift: _chance(shift, df) - power, 0, 10 * bound + 10))


def _chance(shift: float, df: int) -> float:
    """Power of a two-sided t-test whose statistic is off by `shift` standard errors: its square is noncentral F."""
    if shift == 0:  # where scipy's noncentral F returns -0.95
        return 1 - LEVEL
    return float(stats.ncf.sf(stats.t.ppf((1 + LEVEL) / 2, df) ** 2, 1, df, shift**2))


def _error(components: Mapping[str, float], cells: int, questions: int) -> tuple[float, int]:
    """Standard error of the difference, and degrees of freedom."""
    if cells < 2 or questions < 2:
        raise ValueError(f"got {cells} cells and {questions} questions; a test over both takes two of each.")
    seed, question, residual = (components[name] for name in ("seed", "question", "residual"))
    return (seed / cells + question / questions + residual / (cells * questions)) ** 0.5, min(cells, questions) - 1

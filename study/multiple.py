"""Many comparisons at once: p-values adjusted so that the whole family seldom has one false finding."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment of a family of p-values.

    Each of k p-values, from the smallest, is multiplied by k, k - 1, … 1, is at least the one before and at most 1. To
    call those below 0.05 real is wrong about any of them at most 5 % of the time, however the tests depend on each
    other. None, a comparison that could not be tested, stays None and does not count; what is not within 0 and 1
    raises `ValueError`. Source: Holm, Scandinavian Journal of Statistics 6 (1979).

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    tested = [place for place, p in enumerate(p_values) if p is not None]
    for place in tested:
        if not 0 <= p_values[place] <= 1:
            raise ValueError(f"p-value {place} is {p_values[place]}; give one from 0 to 1, or None.")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(tested, key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(tested) - rank) * float(p_values[place])))
        adjusted[place] = largest
    return adjusted

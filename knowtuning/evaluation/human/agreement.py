"""How far raters agree beyond chance: NLTK's coefficients, each with an interval over the items that were rated.

Ratings come as columns, `{rater: [value of item 0, value of item 1, …]}`, with None where a rater gave none. Every
measure returns `{"value", "low", "high", "n", "missing"}`: n items were used, `missing` had too few ratings.
Where all ratings are one value, chance explains everything: kappa and alpha are then None, and so is their interval.

The interval is the value ± 1.96 standard errors, cut off at perfect agreement, by the jackknife over items (Efron and
Tibshirani, An Introduction to the Bootstrap, chapter 11): it costs one evaluation per kind of item, a bootstrap
thousands.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain, combinations
from statistics import NormalDist, mean
from typing import Literal

from nltk.metrics.agreement import AnnotationTask
from nltk.metrics.distance import binary_distance

Value = Hashable | None
Ratings = Mapping[str, Sequence[Value]]
Item = tuple[Value, ...]  # one value per rater

VERDICTS = ("lose", "tie", "win")  # in their order, for the ordinal alpha
LEVEL = 0.95


def percent_agreement(ratings: Ratings) -> dict:
    """Share of pairs of raters that agree on an item, 0 to 100, averaged over items with two ratings or more.

    >>> percent_agreement({"a": ["win", "tie"], "b": ["win", "lose"]})["value"]
    50.0
    """

    def agreeing(item: Item) -> float:
        return mean(first == second for first, second in combinations(_given(item), 2))

    return _measure(ratings, 2, lambda items: 100 * mean(map(agreeing, items)), perfect=100)


def cohens_kappa(first: Sequence[Value], second: Sequence[Value]) -> dict:
    """Agreement of two raters beyond what their own shares of each value would give by chance.

    Source: Cohen (1960), A coefficient of agreement for nominal scales.
    """
    return _measure({"first": first, "second": second}, 2, lambda items: _task(items).kappa(), varied=True)


def fleiss_kappa(ratings: Ratings) -> dict:
    """Agreement of several raters beyond what the overall shares of the values would give by chance.

    It needs as many ratings of every item: items that a rater left out count under `missing`.
    Source: Fleiss (1971), Measuring nominal scale agreement among many raters; NLTK calls it multi-pi.
    """
    return _measure(ratings, len(ratings), lambda items: _task(items).pi(), varied=True)


def krippendorff_alpha(
    ratings: Ratings, scale: Literal["nominal", "ordinal"] = "nominal", values: Sequence[Hashable] | None = None
) -> dict:
    """One minus the disagreement observed over the one expected; any number of raters, any ratings missing.

    Args:
        values: all values in their order, which the ordinal scale needs unless sorting gives it.

    Items with fewer than two ratings cannot be paired and count under `missing`.
    Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability.
    """
    if scale not in ("nominal", "ordinal"):
        raise ValueError(f"scale is {scale!r}; use 'nominal' or 'ordinal'.")
    given = {value for column in ratings.values() for value in _given(column)}
    order = sorted(given) if values is None else list(values)
    if unknown := given - set(order):
        raise ValueError(f"rating {min(unknown, key=str)!r} is unknown; the values are {order}.")

    def alpha(items: Sequence[Item]) -> float:
        distance = binary_distance if scale == "nominal" else _ranks_between(items, order)
        return _task(items, distance).alpha()

    return _measure(ratings, 2, alpha, varied=True)


def agreement_rows(ratings: Ratings, values: Sequence[Hashable] = VERDICTS) -> list[dict]:
    """All measures of two raters or more, a row each: `{"measure", "value", "low", "high", "n", "missing"}`."""
    measures = {"percent agreement": percent_agreement(ratings)}
    for first, second in combinations(ratings, 2):
        measures[f"Cohen's kappa, {first} and {second}"] = cohens_kappa(ratings[first], ratings[second])
    measures["Fleiss' kappa"] = fleiss_kappa(ratings)
    for scale in ("nominal", "ordinal"):
        measures[f"Krippendorff's alpha, {scale}"] = krippendorff_alpha(ratings, scale, values)
    return [{"measure": name, **row} for name, row in measures.items()]


def against_rows(raters: Ratings, standards: Ratings) -> list[dict]:
    """Each rater beside each standard, such as a judge or the truth; the interval is that of Cohen's kappa.

    Rows `{"rater", "against", "agree (%)", "kappa", "low", "high", "n", "missing"}`.
    """
    rows = []
    for name, column in raters.items():
        for standard, values in standards.items():
            percent = percent_agreement({"rater": column, "standard": values})["value"]
            kappa = cohens_kappa(column, values)
            row = {"rater": name, "against": standard, "agree (%)": percent, "kappa": kappa.pop("value")}
            rows.append(row | kappa)
    return rows


def items_needed(measured: dict, width: float) -> int | None:
    """Items that an interval of `width` (high minus low) would take, from one that was measured on fewer or more.

    An interval shrinks with the square root of the items: for half the width, four times the items. None where there
    is no interval, or one without width, which says nothing about others.

    >>> items_needed({"low": 0.4, "high": 0.8, "n": 50}, width=0.2)
    200
    """
    if width <= 0:
        raise ValueError(f"an interval cannot be {width} wide; ask for a width above 0.")
    if measured["low"] is None or measured["high"] == measured["low"]:
        return None
    return math.ceil(round(measured["n"] * ((measured["high"] - measured["low"]) / width) ** 2, 6))


# --- raters that stand for no person: they test the measures


def simulate_raters(
    truth: Sequence[str], error: float, seed: int, raters: int = 3, values: Sequence[str] = VERDICTS
) -> dict[str, list[str]]:
    """Ratings of simulated raters, a column each, who give the true value but for a share `error` of the items.

    In an error any other value is as likely. Raters err on their own: no item is harder than another, which real ones
    are. Columns are called "simulated rater 1" and so on, so that no table can show them as people.

    >>> simulate_raters(["win", "tie"], error=0, seed=0, raters=1)
    {'simulated rater 1': ['win', 'tie']}
    """
    if not 0 <= error <= 1:
        raise ValueError(f"error is {error}; give the share of wrong ratings, 0 to 1.")
    if unknown := set(truth) - set(values):
        raise ValueError(f"true value {min(unknown)!r} is unknown; the values are {list(values)}.")
    columns = {}
    for name in (f"simulated rater {number}" for number in range(1, raters + 1)):
        chance = random.Random(f"{name} of seed {seed}")
        columns[name] = [
            true if chance.random() >= error else chance.choice([value for value in values if value != true])
            for true in truth
        ]
    return columns


def expected_kappa(truth: Sequence[str], error: float, values: Sequence[str] = VERDICTS) -> float:
    """Fleiss' kappa that two such raters have on average on very many items with these shares of true values.

    >>> round(expected_kappa(["win", "tie", "lose"], error=0.2), 2)
    0.49
    """
    off = error / (len(values) - 1)
    shares = [list(truth).count(value) / len(truth) for value in values]
    observed = (1 - error) ** 2 + (len(values) - 1) * off**2
    chance = sum((share * (1 - error) + (1 - share) * off) ** 2 for share in shares)
    return (observed - chance) / (1 - chance)


# --- arithmetic


def _given(values: Sequence[Value]) -> list[Hashable]:
    return [value for value in values if value is not None]


def _task(items: Sequence[Item], distance: Callable = binary_distance) -> AnnotationTask:
    triples = [(rater, number, value) for number, item in enumerate(items) for rater, value in enumerate(item)]
    return AnnotationTask(triples, distance, missing_values=[None])


def _ranks_between(items: Sequence[Item], order: Sequence[Hashable]) -> Callable[[Hashable, Hashable], float]:
    """Krippendorff's ordinal distance of two values: the square of how many ratings lie between them."""
    counts = Counter(chain.from_iterable(map(_given, items)))
    rank, below = {}, 0
    for value in order:
        rank[value] = below + counts[value] / 2
        below += counts[value]
    return lambda first, second: (rank[first] - rank[second]) ** 2


def _measure(
    ratings: Ratings,
    needed: int,
    statistic: Callable[[Sequence[Item]], float],
    varied: bool = False,
    perfect: float = 1,
) -> dict:
    """Value and jackknife interval over the items that have `needed` ratings; `varied`: undefined of a single value."""
    if len(ratings) < 2:
        raise ValueError(f"agreement needs two raters or more; there are {len(ratings)}.")
    lengths = {name: len(column) for name, column in ratings.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"raters must have rated the same items, None where they did not; they have {lengths}.")
    every = list(zip(*ratings.values(), strict=True))
    items = [item for item in every if len(_given(item)) >= needed]
    row = {"value": None, "low": None, "high": None, "n": len(items), "missing": len(every) - len(items)}

    def defined(some: Sequence[Item]) -> bool:
        return bool(some) and not (varied and len(set(chain.from_iterable(map(_given, some)))) < 2)

    if not defined(items):
        return row
    row["value"] = float(statistic(items))
    kinds, left_out = Counter(items), []
    for kind, times in kinds.items():
        others = list((kinds - Counter([kind])).elements())
        if not defined(others):
            return row
        left_out += [statistic(others)] * times
    center = mean(left_out)
    error = math.sqrt((len(items) - 1) / len(items) * sum((value - center) ** 2 for value in left_out))
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    return row | {"low": row["value"] - reach, "high": min(row["value"] + reach, float(perfect))}

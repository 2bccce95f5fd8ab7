"""Agreement measures against the published worked examples, another library, and raters whose error is known."""

from __future__ import annotations

import numpy as np
import pytest
from nltk.metrics.agreement import AnnotationTask

from knowtuning.evaluation.human.agreement import (
    VERDICTS,
    against_rows,
    agreement_rows,
    cohens_kappa,
    expected_kappa,
    fleiss_kappa,
    items_needed,
    krippendorff_alpha,
    percent_agreement,
    simulate_raters,
)


def column(text):
    return [None if mark == "*" else int(mark) for mark in text.split()]


# Krippendorff (2011), section C and D: four observers, twelve units, missing data
OBSERVERS = {
    "A": column("1 2 3 3 2 1 4 1 2 * * *"),
    "B": column("1 2 3 3 2 2 4 1 2 5 * 3"),
    "C": column("* 3 3 3 2 3 4 2 2 5 1 *"),
    "D": column("1 2 3 3 2 4 4 1 2 5 1 *"),
}

# Fleiss (1971), table 1: thirty patients, six psychiatrists, five diagnoses
DIAGNOSES = """
0 0 0 6 0 | 0 3 0 0 3 | 0 1 4 0 1 | 0 0 0 0 6 | 0 3 0 3 0 | 2 0 4 0 0 | 0 0 4 0 2 | 2 0 3 1 0 | 2 0 0 4 0 | 0 0 0 0 6
1 0 0 5 0 | 1 1 0 4 0 | 0 3 3 0 0 | 1 0 0 5 0 | 0 2 0 3 1 | 0 0 5 0 1 | 3 0 0 1 2 | 5 1 0 0 0 | 0 2 0 4 0 | 1 0 2 0 3
0 0 0 0 6 | 0 1 0 5 0 | 0 2 0 1 3 | 2 0 0 4 0 | 1 0 0 4 1 | 0 5 0 1 0 | 4 0 0 0 2 | 0 2 0 4 0 | 1 0 5 0 0 | 0 0 0 0 6
"""


def psychiatrists():
    patients = [[int(n) for n in patient.split()] for patient in DIAGNOSES.replace("\n", "|").split("|") if patient]
    given = [[value for value, times in enumerate(patient) for _ in range(times)] for patient in patients]
    return {f"psychiatrist {number}": list(values) for number, values in enumerate(zip(*given, strict=True))}


def test_krippendorffs_own_example():
    assert krippendorff_alpha(OBSERVERS)["value"] == pytest.approx(0.743, abs=5e-4)
    ordinal = krippendorff_alpha(OBSERVERS, "ordinal")
    assert ordinal["value"] == pytest.approx(0.815, abs=5e-4)
    assert (ordinal["n"], ordinal["missing"]) == (11, 1)  # unit 12 has one rating, which pairs with none


def test_fleiss_own_example():
    found = fleiss_kappa(psychiatrists())
    assert found["n"] == 30
    assert found["value"] == pytest.approx(0.430, abs=5e-4)


def nltk_kappa(one, two):
    triples = [(name, item, value) for name, column in (("a", one), ("b", two)) for item, value in enumerate(column)]
    return AnnotationTask(data=triples).kappa()


def test_cohens_kappa_by_hand():
    # 20 both yes, 5 and 10 split, 15 both no: observed .7, chance .5, kappa .4
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohens_kappa(first, second)["value"] == pytest.approx(0.4)
    assert percent_agreement({"first": first, "second": second})["value"] == pytest.approx(70)


@pytest.mark.parametrize("seed", range(3))
def test_values_equal_those_of_other_libraries(seed):
    ratings = simulate_raters(list(VERDICTS) * 30, 0.3, seed, raters=3)
    triples = [(name, item, value) for name, column in ratings.items() for item, value in enumerate(column)]
    one, two, _ = ratings.values()
    assert cohens_kappa(one, two)["value"] == pytest.approx(nltk_kappa(one, two))
    assert krippendorff_alpha(ratings)["value"] == pytest.approx(AnnotationTask(data=triples).alpha())
    assert percent_agreement(ratings)["value"] == pytest.approx(100 * AnnotationTask(data=triples).avg_Ao())


def test_ordinal_alpha_forgives_a_near_miss_and_punishes_a_far_one():
    truth = list(VERDICTS) * 20
    near = [{"lose": "tie", "win": "tie"}.get(value, value) if number % 4 == 0 else value for number, value in
            enumerate(truth)]  # fmt: skip
    far = [{"lose": "win", "win": "lose"}.get(value, value) if number % 4 == 0 else value for number, value in
           enumerate(truth)]  # fmt: skip
    alphas = {
        (name, scale): krippendorff_alpha({"a": truth, "b": other}, scale, VERDICTS)["value"]
        for name, other in (("near", near), ("far", far))
        for scale in ("nominal", "ordinal")
    }
    assert alphas["near", "ordinal"] > alphas["near", "nominal"] + 0.05
    assert alphas["far", "ordinal"] < alphas["far", "nominal"] - 0.05


@pytest.mark.parametrize("error", [0.05, 0.2, 0.4])
def test_raters_with_a_known_error_get_the_kappa_that_follows_from_it(error):
    truth = ["win"] * 3000 + ["tie"] * 1000 + ["lose"] * 2000
    ratings = simulate_raters(truth, error, seed=1, raters=3)
    expected = expected_kappa(truth, error)
    assert fleiss_kappa(ratings)["value"] == pytest.approx(expected, abs=0.03)
    assert krippendorff_alpha(ratings)["value"] == pytest.approx(expected, abs=0.03)


def test_intervals_hold_the_expected_value_about_as_often_as_they_say():
    truth = ["win"] * 25 + ["tie"] * 15 + ["lose"] * 20
    held = 0
    for seed in range(200):
        # the truth is drawn anew, as the items of a sheet are
        drawn = [truth[place] for place in np.random.default_rng(seed).integers(0, len(truth), len(truth))]
        found = krippendorff_alpha(simulate_raters(drawn, 0.2, seed))
        held += found["low"] <= expected_kappa(truth, 0.2) <= found["high"]
    assert 0.88 * 200 <= held <= 0.99 * 200


def test_the_interval_is_the_one_of_a_plain_bootstrap_over_items():
    ratings = simulate_raters(list(VERDICTS) * 15, 0.25, seed=4, raters=2)
    one, two = (np.array(column) for column in ratings.values())
    rng = np.random.default_rng(9)
    drawn = [nltk_kappa(one[some], two[some]) for some in (rng.integers(0, len(one), len(one)) for _ in range(1000))]
    found = cohens_kappa(list(one), list(two))
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.03)


def test_what_is_not_defined_has_no_value():
    same = {"a": ["win"] * 5, "b": ["win"] * 5}
    assert percent_agreement(same)["value"] == 100
    for found in (cohens_kappa(same["a"], same["b"]), fleiss_kappa(same), krippendorff_alpha(same)):
        assert (found["value"], found["low"], found["n"]) == (None, None, 5)
    assert krippendorff_alpha({"a": [None], "b": ["win"]})["missing"] == 1
    assert cohens_kappa([], [])["value"] is None


def test_perfect_and_reversed_raters():
    truth = list(VERDICTS) * 10
    assert krippendorff_alpha({"a": truth, "b": truth})["value"] == pytest.approx(1)
    reverse = {"lose": "win", "win": "lose", "tie": "tie"}
    assert krippendorff_alpha({"a": truth, "b": [reverse[v] for v in truth]}, "ordinal", VERDICTS)["value"] < 0


def test_missing_ratings_cost_fleiss_the_item_and_alpha_nothing():
    ratings = {"a": ["win", "tie", "lose"], "b": ["win", "tie", "tie"], "c": ["win", None, "lose"]}
    assert (fleiss_kappa(ratings)["n"], fleiss_kappa(ratings)["missing"]) == (2, 1)
    assert (krippendorff_alpha(ratings)["n"], krippendorff_alpha(ratings)["missing"]) == (3, 0)


def test_all_measures_in_rows():
    rows = agreement_rows(simulate_raters(list(VERDICTS) * 10, 0.1, seed=0, raters=3))
    assert [row["measure"].split(",")[0] for row in rows] == [
        "percent agreement",
        *["Cohen's kappa"] * 3,
        "Fleiss' kappa",
        *["Krippendorff's alpha"] * 2,
    ]
    assert all(row["low"] <= row["value"] <= row["high"] and row["n"] == 30 for row in rows)


def test_raters_against_a_standard():
    truth = list(VERDICTS) * 10
    one = truth[:-3] + [None, "lose", "lose"]
    [row] = against_rows({"one": one}, {"truth": truth})
    assert (row["rater"], row["against"], row["n"], row["missing"]) == ("one", "truth", 29, 1)
    assert row["agree (%)"] == pytest.approx(100 * 27 / 29)
    assert row["kappa"] == pytest.approx(nltk_kappa([v for v in one if v], truth[:-3] + truth[-2:]))


def test_items_needed_is_right_when_tried():
    shares = list(VERDICTS) * 20
    found = krippendorff_alpha(simulate_raters(shares, 0.2, seed=0))
    more = items_needed(found, width=0.1)
    tried = krippendorff_alpha(simulate_raters(list(VERDICTS) * (more // 3), 0.2, seed=1))
    assert tried["high"] - tried["low"] == pytest.approx(0.1, rel=0.25)
    assert items_needed({"low": None, "high": None, "n": 0}, 0.1) is None
    with pytest.raises(ValueError, match="width above 0"):
        items_needed(found, 0)


def test_ratings_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="two raters or more"):
        fleiss_kappa({"a": ["win"]})
    with pytest.raises(ValueError, match="same items"):
        percent_agreement({"a": ["win"], "b": ["win", "tie"]})
    with pytest.raises(ValueError, match="'draw' is unknown"):
        krippendorff_alpha({"a": ["win"], "b": ["draw"]}, "ordinal", VERDICTS)
    with pytest.raises(ValueError, match="'nominal' or 'ordinal'"):
        krippendorff_alpha({"a": ["win"], "b": ["win"]}, "ratio")

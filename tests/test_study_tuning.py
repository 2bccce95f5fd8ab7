"""The learning rates: chosen by the mean over seeds, the smaller of two equals, and only from what was tried."""

import pytest

from knowtuning.files import DataError
from knowtuning.recipe import get_recipe
from study.cell import learning_rate, scaled
from study.map import means
from study.tuning import choose


def tried(arm, seed, **scores):
    multiples = {"half": 0.5, "one": 1.0, "two": 2.0}
    return [
        {"arm": arm, "seed": seed, "multiple": multiples[name], "rate": 1e-3 * multiples[name], "f1": f1}
        for name, f1 in scores.items()
    ]


def test_the_best_mean_over_seeds_wins_and_not_the_best_single_score():
    chosen = choose([tried("sft", 100, half=0.5, one=0.9), tried("sft", 101, half=0.8, one=0.3)])
    assert chosen["chosen"] == {"sft": 5e-4} and chosen["multiples"] == {"sft": 0.5}
    assert chosen["grid"] == [0.5, 1.0] and chosen["seeds"] == [100, 101] and len(chosen["rows"]) == 4


def test_of_two_equal_rates_the_smaller_is_taken():
    assert choose([tried("ka", 100, two=0.7, one=0.7)])["multiples"] == {"ka": 1.0}


def test_nothing_tried_is_nothing_chosen():
    with pytest.raises(DataError, match="no tried learning rates"):
        choose([])


def test_a_multiple_scales_the_rate_that_an_arm_is_trained_with():
    lab = get_recipe("lab")
    assert learning_rate(lab, "sft", 2.0) == scaled(lab, 2.0).sft.learning_rate == 2 * lab.sft.learning_rate
    assert learning_rate(lab, "rlaif", 0.5) == scaled(lab, 0.5).dpo.learning_rate == lab.dpo.learning_rate / 2
    assert learning_rate(lab, "ka_preferred", 1.0) == lab.sft.learning_rate


def test_means_of_a_point_pool_the_share_of_correct_facts_and_keep_tiers_apart():
    row = {"completeness": 0.25, "order": None, "words": 10, "unreadable": 0, "repeated": 0}
    rows = [
        {**row, "tier": "known", "correct": 2, "incorrect": 0},
        {**row, "tier": "rare", "correct": 1, "incorrect": 3, "order": 0.5},
    ]
    found = means(rows, relations=8)
    assert found["percent_correct"] == 50.0 and found["percent_correct: known"] == 100.0
    assert found["order"] == 50.0 and found["order: known"] is None
    assert found["f1"] == pytest.approx(100 * (4 / 10 + 2 / 12) / 2)

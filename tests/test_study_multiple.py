from __future__ import annotations

import doctest

import numpy as np
import pytest

from study import multiple
from study.multiple import holm


def test_a_hand_worked_example():
    # 4 x .005 = .02, 3 x .01 = .03, 2 x .03 = .06, and 1 x .04, raised to .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, 0.6, 0.5]) == [0.12, 1.0, 1.0]


def test_one_test_is_left_alone_and_none_does_not_count():
    assert holm([0.03]) == [0.03] and holm([]) == []
    assert holm([None, 0.01, None, 0.04]) == [None, 0.02, None, 0.04]


def test_the_family_seldom_has_a_false_finding():
    rng = np.random.default_rng(0)
    families = rng.uniform(size=(2000, 10))
    assert np.mean([min(holm(list(family))) < 0.05 for family in families]) == pytest.approx(0.05, abs=0.015)


def test_the_worked_example_holds():
    result = doctest.testmod(multiple)
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("wrong", [1.2, -0.1, float("nan")])
def test_what_is_no_p_value_is_refused(wrong):
    with pytest.raises(ValueError, match="p-value 1 is"):
        holm([0.1, wrong])

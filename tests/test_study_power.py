from __future__ import annotations

import numpy as np
import pytest

from study.power import minimal_difference, power
from study.seeds import Paired, crossed

# Standard deviations of the lab's completeness: 3.9 points over trainings, 18.8 left per answer.
LAB = {"seed": 3.9**2, "question": 4.0**2, "residual": 18.8**2}


def draw(rng, cells, questions, effect):
    part = LAB["seed"] ** 0.5 * rng.normal(size=(cells, 1)) + LAB["question"] ** 0.5 * rng.normal(size=(1, questions))
    return effect + part + LAB["residual"] ** 0.5 * rng.normal(size=(cells, questions))


@pytest.mark.parametrize(("cells", "effect"), [(6, 5.0), (10, 5.0), (6, 0.0)])
def test_power_is_that_of_simulated_studies(cells, effect):
    rng = np.random.default_rng(cells)
    found = [crossed(Paired(draw(rng, cells, 100, effect), np.zeros((cells, 100))), resamples=300) for _ in range(400)]
    share = np.mean([row["p"] < 0.05 for row in found])
    assert share == pytest.approx(power(effect, LAB, cells, 100), abs=0.06)


def test_the_minimal_difference_has_the_power_asked_for():
    for cells, asked in ((3, 0.5), (8, 0.8), (20, 0.95)):
        found = minimal_difference(LAB, cells, 300, power=asked)
        assert power(found, LAB, cells, 300) == pytest.approx(asked)
        assert power(-found, LAB, cells, 300) == pytest.approx(asked)


def test_without_a_difference_the_power_is_the_error_allowed():
    assert power(0, LAB, 5, 100) == pytest.approx(0.05)


def test_questions_do_not_buy_what_only_cells_can():
    assert minimal_difference(LAB, 12, 300) < minimal_difference(LAB, 4, 100_000)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="got 1 cells and 300 questions"):
        power(1, LAB, 1, 300)
    with pytest.raises(ValueError, match="power is 0.01"):
        minimal_difference(LAB, 5, 300, power=0.01)

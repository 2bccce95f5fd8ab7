"""Win rates are freed of a judge's known errors, or refused where its verdicts say too little."""

import numpy as np
import pytest

from knowtuning.evaluation.judge import VERDICTS, summarise_verdicts
from study.correction import confusion, corrected_win_rate

RATES = np.array([[0.6, 0.38, 0.02], [0.03, 0.9, 0.07], [0.05, 0.45, 0.5]])


def calibration_of(rates, truths, rng):
    """Calibration tables (questions, k, k) of a judge with these rates, one pair per question."""
    tables = np.zeros((sum(truths), 3, 3))
    for number, true in enumerate(np.repeat(range(3), truths)):
        tables[number, true, rng.choice(3, p=rates[true])] = 1
    return tables


def observed_of(rates, true, pairs, rng):
    counts = rng.multinomial(pairs, np.array(true) @ rates)
    return dict(zip(VERDICTS, map(int, counts), strict=True))


def test_the_corrected_rate_is_nearer_the_truth_and_its_interval_holds_it():
    rng, true = np.random.default_rng(0), (0.6, 0.3, 0.1)
    rate, held, near, raw_near = 0.75, 0, [], []
    for seed in range(60):
        observed = observed_of(RATES, true, 300, rng)
        found = corrected_win_rate(observed, calibration_of(RATES, (100, 100, 100), rng), resamples=500, seed=seed)
        corrected, raw = found["corrected"]["win_rate"], found["raw"]["win_rate"]
        held += corrected["low"] <= rate <= corrected["high"]
        near.append(corrected["value"] - rate)
        raw_near.append(raw["value"] - rate)
    assert held >= 53, "95 % of 60 are 57, less three standard deviations of chance"
    assert abs(np.mean(near)) < 0.02 and np.mean(raw_near) < -0.06
    assert np.mean(np.abs(near)) < np.mean(np.abs(raw_near)) / 2


def test_exact_shares_are_recovered_exactly_and_known_ties_stay():
    calibration = RATES[None] * 100
    observed = dict(zip(VERDICTS, np.array([600, 300, 100]) @ RATES, strict=True))
    found = corrected_win_rate({**observed, "tie": observed["tie"] + 250, "identical": 250}, calibration, resamples=50)
    got = [found["corrected"][name]["value"] for name in (*VERDICTS, "win_rate")]
    assert got == pytest.approx([600 / 1250, 550 / 1250, 100 / 1250, 875 / 1250])
    assert found["raw"]["win"]["value"] == pytest.approx(observed["win"] / 1250)
    assert not found["clipped"] and found["pairs"] == 1250


def test_two_classes_are_rogan_and_gladen():
    sensitivity, specificity, wins = 0.8, 0.7, 0.55
    table = np.zeros((1, 3, 3))
    table[0, 0, [0, 2]] = [80, 20]
    table[0, 2, [0, 2]] = [30, 70]
    found = corrected_win_rate({"win": 550, "tie": 0, "lose": 450}, table, resamples=50)
    expected = (wins + specificity - 1) / (sensitivity + specificity - 1)
    assert found["corrected"]["win"]["value"] == pytest.approx(expected)
    assert found["corrected"]["win_rate"]["value"] == pytest.approx(expected)
    assert found["corrected"]["tie"]["value"] == 0


def test_shares_outside_the_simplex_are_clipped_and_said():
    found = corrected_win_rate({"win": 95, "tie": 5, "lose": 0}, RATES[None] * 100, resamples=200)
    assert found["clipped"] and found["clipped_resamples"] > 0.9
    shares = [found["corrected"][name]["value"] for name in VERDICTS]
    assert min(shares) == 0 and sum(shares) == pytest.approx(1)


def test_the_interval_knows_how_large_the_calibration_was():
    rng = np.random.default_rng(1)
    observed = {"win": 150, "tie": 100, "lose": 50}
    widths = []
    for size in (40, 400):
        found = corrected_win_rate(observed, calibration_of(RATES, (size,) * 3, rng), resamples=1000)
        widths.append(found["corrected"]["win_rate"]["high"] - found["corrected"]["win_rate"]["low"])
    assert widths[0] > 1.2 * widths[1]


def test_a_judge_that_guesses_cannot_be_corrected():
    rng = np.random.default_rng(0)
    guess, observed = np.tile([0.3, 0.4, 0.3], (3, 1)), {"win": 90, "tie": 120, "lose": 90}
    with pytest.raises(ValueError, match="nearly singular"):
        corrected_win_rate(observed, guess[None] * 100, resamples=100)
    for _ in range(5):
        with pytest.raises(ValueError, match="nearly singular"):
            corrected_win_rate(observed, calibration_of(guess, (30, 30, 30), rng), resamples=500)
    with pytest.raises(ValueError, match="2 calibration pairs are truly 'lose'"):
        corrected_win_rate(observed, calibration_of(RATES, (30, 30, 2), rng))
    with pytest.raises(ValueError, match="no pair was judged"):
        corrected_win_rate({"win": 0, "tie": 3, "lose": 0, "identical": 3}, guess[None])


def judged(count, rng):
    """Verdicts on factuality of a judge with these rates, and their truth."""
    truth = rng.choice(VERDICTS, count, p=[0.4, 0.3, 0.3]).tolist()
    given = [rng.choice(VERDICTS, p=RATES[VERDICTS.index(true)]) for true in truth]
    about = {"aspect": "factuality", "identical": False, "consistent": True}
    return [{"id": f"q{number}", "verdict": str(verdict), **about} for number, verdict in enumerate(given)], truth


def test_verdicts_of_an_erring_judge_are_corrected_from_other_pairs():
    rng = np.random.default_rng(1)
    verdicts, truth = judged(400, rng)
    table = confusion(*judged(400, rng), "factuality")
    assert table.shape == (400, 3, 3) and table.sum() == 400
    [row] = summarise_verdicts(verdicts)
    found = corrected_win_rate(row, table, resamples=1000)
    for name in VERDICTS:
        corrected, share = found["corrected"][name], truth.count(name) / len(truth)
        assert corrected["low"] <= share <= corrected["high"]
    tie, raw = truth.count("tie") / len(truth), found["raw"]["tie"]["value"]
    assert abs(found["corrected"]["tie"]["value"] - tie) < abs(raw - tie) / 2

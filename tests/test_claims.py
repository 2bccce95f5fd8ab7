"""The claims of docs/results.md against the committed results: every number, and what the seeds carry."""

import re

import numpy as np
import pytest
from scipy import stats

from knowtuning.files import ROOT
from study import claims, tables
from study.plan import STUDIES

RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def study():
    return tables.load(ROOT / "data" / "results" / "lab" / "study")


def by_cell(study, claim, domain, decoding):
    """The gain of a claim in each cell, from the cells' own means: not from the rows that the verdict was made of."""
    own = {
        arm: {
            (row["recipe"], row["seed"]): row[claim.measure]
            for row in study["cells"]
            if (row["domain"], row["decoding"], row["arm"]) == (domain, decoding, arm)
        }
        for arm in (claim.arm, claim.against)
    }
    shared = own[claim.arm].keys() & own[claim.against].keys()
    return {cell: claim.sign * (own[claim.arm][cell] - own[claim.against][cell]) for cell in sorted(shared)}


def test_the_committed_study_is_the_planned_one(study):
    plan = {(recipe, seed) for recipe, seeds in STUDIES["lab"].cells.items() for seed in seeds}
    assert {(row["recipe"], row["seed"]) for row in study["coverage"]} == plan
    assert not study["unfinished"] and not any(row["missing"] for row in study["coverage"])


def test_the_page_has_every_claim_of_the_paper_with_its_numbers(study):
    rows = tables.verdicts(study, "greedy")
    assert {row["claim"] for row in rows} == {claim.text for claim in claims.CLAIMS}
    shown = [{name: row[name] for name in row if name not in ("family", "measure")} for row in rows]
    for line in tables.markdown(shown).splitlines():
        assert line in RESULTS, line


def test_every_interval_in_the_page_is_one_of_the_study(study):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = "".join(page.split("## What the lab found")[1].split("\n## ")[0] for page in (RESULTS, readme))
    said = re.findall(r"[+-]\d+\.\d+ \[-?\d+\.\d+, -?\d+\.\d+\]", section)
    known = {tables.interval(row) for row in (*study["differences"], *study["pairwise"])}
    known |= {tables.interval(row, "gain") for row in study["claims"]}
    assert len(said) > 10 and not [interval for interval in said if interval not in known]


def test_what_holds_is_carried_by_the_spread_over_trainings(study):
    checked = 0
    for claim in claims.CLAIMS:
        held = [row for row in study["claims"] if row["claim"] == claim.text and row["verdict"] == "holds"]
        for row in held if claim.kind == "metric" else []:
            gains = np.array(list(by_cell(study, claim, row["domain"], row["decoding"]).values()))
            band = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
            assert 0 < band < gains.mean(), (claim.text, row["domain"], row["decoding"])
            # a pooled share is not quite the mean of the cells
            assert gains.mean() == pytest.approx(row["gain"], abs=0.35), claim.text
            checked += 1
    assert checked > 0


def test_what_does_not_hold_has_no_gain_beyond_the_band(study):
    for row in study["claims"]:
        if row["verdict"] == "does not hold":
            assert row["high"] < row["band"], row["claim"]
        if row["verdict"] == "cannot be told" and row["low"] is not None:
            assert row["high"] >= row["band"] and not (row["gain"] > 0 and row["p_holm"] < claims.LEVEL), row["claim"]

"""The plan of the study: what the paper compares is in it, and nothing is chosen on a seed that is also reported."""

import re

import pytest

from knowtuning.arms import ARMS
from knowtuning.files import ROOT
from knowtuning.recipe import get_recipe
from study.plan import CONTROLS, STUDIED, STUDIES, Method, at_point, get_study

LAB = get_recipe("lab").lab

LAB_STUDY = STUDIES["lab"]


def test_all_arms_and_controls_run_on_ten_training_seeds_and_two_bases():
    assert set(STUDIED) == {*ARMS, *CONTROLS} and LAB_STUDY.arms == STUDIED
    medical = {name: seeds for name, seeds in LAB_STUDY.cells.items() if get_recipe(name).lab.world == "medical"}
    assert len({seed for seeds in medical.values() for seed in seeds}) >= 10
    assert len({get_recipe(name).lab.base_seed for name in medical}) == 2
    assert {get_recipe(name).lab.world for name in LAB_STUDY.cells} == {"medical", "generic"}


def test_no_seed_of_tuning_is_reported():
    for study in STUDIES.values():
        reported = {seed for seeds in study.cells.values() for seed in seeds} | set(study.point_seeds)
        assert not reported.intersection(study.tuning_seeds)


def test_the_default_is_the_papers_and_a_point_turns_one_knob():
    assert Method() == Method(alpha=0.5, beta=0.5, gamma=0.2, select="hardest")
    for point in LAB_STUDY.points:
        turned = [
            point.method != Method(),
            point.false_share > 0,
            get_recipe(point.recipe).lab.tiers != LAB.tiers,
        ]
        assert sum(turned) == (point.axis != "default"), point


def test_the_map_has_every_axis_and_each_point_a_folder_of_its_own():
    axes = {point.axis for point in LAB_STUDY.points}
    assert axes == {"default", "exposure", "annotator errors", "alpha", "beta", "gamma", "selection"}
    names = [point.name for point in LAB_STUDY.points]
    assert len(set(names)) == len(names) and all(" " not in name and "/" not in name for name in names)


def test_a_point_of_annotator_errors_has_annotators_that_err():
    [point] = [point for point in LAB_STUDY.points if point.name == "annotator-errors-0.3"]
    assert at_point(point).lab.false_share == 0.3 and get_recipe("lab").lab.false_share == 0.0


def test_an_unknown_study_is_refused_by_name():
    with pytest.raises(ValueError, match="'labb' is unknown; use one of lab, smoke"):
        get_study("labb")


def test_the_package_does_not_know_the_study():
    for path in [*(ROOT / "knowtuning").rglob("*.py"), ROOT / "Snakefile", ROOT / "shards.smk"]:
        assert not re.search(r"^\s*(from|import) study\b", path.read_text(encoding="utf-8"), re.M), path

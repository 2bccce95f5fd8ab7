from __future__ import annotations

from statistics import mean

import pytest

from knowtuning.lab.annotators import annotate, narrow
from knowtuning.lab.world import World
from knowtuning.recipe import get_recipe

LAB = get_recipe("lab").lab
SMOKE = get_recipe("smoke").lab

SIZES = {split: sum(count for _, count in getattr(LAB, split)) for split in ("train", "valid", "test")}


@pytest.fixture(scope="module")
def world():
    return World.load(LAB)


@pytest.fixture(scope="module")
def splits():
    return annotate(LAB, seed=1)


def read(world, row):
    return world.parse(row["answer"], world.find_entity(row["question"]))


def test_rows_are_qa_rows_with_unique_ids(splits):
    rows = splits.train + splits.valid + splits.test
    assert all(set(row) == {"id", "question", "answer", "source"} for row in rows)
    assert len({row["id"] for row in rows}) == len(rows) == sum(SIZES.values())
    assert {split: len(getattr(splits, split)) for split in SIZES} == SIZES
    assert splits.train[0]["id"] == "lab-train-0001" and splits.train[0]["source"] == "lab/medical"


def test_no_entity_is_in_two_splits_and_the_side_table_tells_the_tier(world, splits):
    assert len({row["entity"] for row in splits.entities}) == len(splits.entities) == sum(SIZES.values())
    questions = {row["id"]: row["question"] for row in splits.train + splits.valid + splits.test}
    for row in splits.entities:
        assert row["entity"] in questions[row["id"]] and row["tier"] == world.tier[row["entity"]]
    tiers = [row["tier"] for row in splits.entities if row["id"].startswith("lab-test")]
    assert {tier: tiers.count(tier) for tier, _ in LAB.test} == dict(LAB.test)


def test_people_are_truthful_incomplete_and_not_quite_in_order(world, splits):
    sizes, in_order = [], []
    for row in splits.train:
        statements = read(world, row)
        places = [world.order[s.relation] for s in statements]
        assert all(s.correct for s in statements) and len(set(places)) == len(places)
        sizes.append(len(places))
        in_order += [a < b for i, a in enumerate(places) for b in places[i + 1 :]]
    assert min(sizes) == 2 and max(sizes) == 8
    assert mean(sizes) == pytest.approx(mean(LAB.answer_sizes), abs=0.25)
    assert 0.75 < mean(in_order) < 0.95


def test_the_name_comes_first_and_pronouns_after(world, splits):
    for row in splits.train:
        assert row["answer"].count(world.find_entity(row["question"])) == 1


def test_references_of_the_test_split_are_complete_and_in_order(world, splits):
    for row in splits.test:
        statements = read(world, row)
        assert [s.relation for s in statements] == list(world.relation) and all(s.correct for s in statements)


def test_a_seed_resamples_train_only(splits):
    other = annotate(LAB, seed=2)
    assert other.test == splits.test and other.valid == splits.valid
    assert {row["entity"] for row in other.entities} != {row["entity"] for row in splits.entities}
    assert annotate(LAB, seed=1) == splits


def test_the_narrow_set_asks_the_test_entities_for_few_things_and_is_the_same_for_every_seed():
    rows, test = narrow(SMOKE), annotate(SMOKE, seed=3).test
    world = World.load(SMOKE)
    assert rows == narrow(SMOKE) and len(rows) == len(test)
    for row, broad in zip(rows, test, strict=True):
        entity = world.find_entity(row["question"])
        assert entity == world.find_entity(broad["question"])
        told = [statement.relation for statement in world.parse(row["answer"], entity) if statement.correct]
        assert told == row["relations"] and 1 <= len(told) <= 3


def test_annotators_err_as_often_as_they_are_told_to_and_never_otherwise():
    for share in (0.0, 0.3):
        settings = LAB.replace(false_share=share)
        world = World.load(settings)
        told = [
            statement
            for row in annotate(settings).train
            for statement in world.parse(row["answer"], world.find_entity(row["question"]))
        ]
        false = sum(not statement.correct for statement in told) / len(told)
        assert abs(false - share) < 0.04 and all(statement.relation for statement in told)
        assert share or not false

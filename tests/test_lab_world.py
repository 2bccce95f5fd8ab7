from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
import yaml

from knowtuning.files import DataError
from knowtuning.lab.world import WORLDS, World
from knowtuning.recipe import LabSettings, Tier, get_recipe

LAB = get_recipe("lab").lab
SMOKE = get_recipe("smoke").lab

NAMES = sorted(path.stem for path in WORLDS.glob("*.yaml"))


@pytest.fixture(scope="module", params=NAMES)
def world(request):
    return World.load(request.param)


@pytest.fixture(scope="module")
def medical():
    return World.load("medical")


def description(**changes):
    text = (WORLDS / "medical.yaml").read_text(encoding="utf-8")
    return {**yaml.safe_load(text), **changes}


def test_both_worlds_exist():
    assert {"medical", "generic"} <= set(NAMES)


def test_every_wording_of_every_value_reads_back_as_itself_alone(world):
    name = world.entities[0]
    for relation in world.relations:
        for (number, _), value, pronoun in itertools.product(
            enumerate(relation.templates), relation.values, (False, True)
        ):
            text = world.sentence(name, relation.key, value, number, pronoun)
            [read] = world.parse(text, name)
            assert (read.relation, read.value, read.template, read.entity) == (relation.key, value, number, name), text
            assert read.correct == (world.facts[name][relation.key] == value)
            readings = [1 for _, _, pattern in world._patterns if pattern.fullmatch(text)]
            assert len(readings) == 1, text


def test_sentences_are_english_to_the_eye(world):
    for relation in world.relations:
        for number in range(len(relation.templates)):
            text = world.sentence(world.entities[0], relation.key, template=number, pronoun=True)
            assert text[0].isupper() and text.endswith(".") and "It" not in text[1:], text
        assert relation.question.endswith("?") and len(relation.templates) >= 4 and len(relation.values) == 20


def test_values_of_the_world_are_distinct_over_relations(world):
    values = [value for relation in world.relations for value in relation.values]
    assert len(values) == len(set(values)) == 160


def test_the_same_settings_give_the_same_world_under_any_hash_seed():
    code = (
        "from knowtuning.lab.world import World; world = World.load('medical');"
        "print(world.entities[:9], world.facts[world.entities[5]])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1 and "[" in outputs.pop()


def test_world_and_oracle_load_without_torch():
    code = "import sys, knowtuning.lab.oracle, knowtuning.lab.annotators; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_another_seed_gives_another_world():
    one, two = World.load(SMOKE), World.load(LabSettings(**{**vars(SMOKE), "world_seed": 1}))
    assert one.entities != two.entities


def test_names_differ_and_none_is_part_of_the_reading_of_another(medical):
    assert len(set(medical.entities)) == len(medical.entities) == sum(tier.entities for tier in LAB.tiers)
    assert all(medical.find_entity(f"Tell me about {name}, please.") == name for name in medical.entities)


def test_find_entity_wants_whole_words_and_ignores_case(medical):
    name = medical.entities[0]
    assert medical.find_entity(f"what is {name.lower()}?") == name
    assert medical.find_entity(f"What is {name}x?") is None
    assert medical.find_entity("What is rain?") is None


def test_tiers_have_the_sizes_and_exposures_of_the_settings(medical):
    for tier in LAB.tiers:
        members = [name for name in medical.entities if medical.tier[name] == tier.name]
        assert len(members) == tier.entities
        assert {medical.exposures[name] for name in members} == {tier.exposures}


def test_a_fact_of_another_entity_is_incorrect(medical):
    one, two = medical.entities[:2]
    [read] = medical.parse(medical.sentence(two, "cause"), one)
    assert read.entity == two and not read.correct


def test_a_pronoun_stands_for_the_entity_named_last(medical):
    one, two = medical.entities[:2]
    named = f"{medical.sentence(one, 'cause')} {medical.sentence(two, 'sign')}"
    text = f"{named} {medical.sentence(one, 'test', pronoun=True)}"
    assert [read.entity for read in medical.parse(text, one)] == [one, two, two]
    assert [read.correct for read in medical.parse(text, one)] == [True, False, False]


def test_lost_period_odd_spaces_case_and_line_breaks_are_read(medical):
    name = medical.entities[0]
    true = medical.facts[name]
    text = f"the cause of {name.lower()} is  {true['cause'].upper()} \n It begins with {true['sign']}"
    assert [(s.relation, s.value, s.correct) for s in medical.parse(text, name)] == [
        ("cause", true["cause"], True),
        ("sign", true["sign"], True),
    ]


def test_two_facts_joined_by_and_are_two_statements(medical):
    text = "Toyitis is caused by moon frost and begins with silver sweat."
    assert [(s.relation, s.value) for s in medical.parse(text, "Toyitis")] == [
        ("cause", "moon frost"),
        ("sign", "silver sweat"),
    ]


def test_what_cannot_be_read_is_kept_and_incorrect(medical):
    name = medical.entities[0]
    reads = medical.parse(f"{name} is nice. {medical.sentence(name, 'cause')}", name)
    assert [(s.relation, s.correct) for s in reads] == [(None, False), ("cause", True)]
    assert reads[0].sentence == f"{name} is nice."
    assert medical.parse("", name) == []


def test_an_unknown_value_is_returned_as_written_and_incorrect(medical):
    name = medical.entities[0]
    [read] = medical.parse(f"{name} is caused by green tea.", name)
    assert (read.relation, read.value, read.correct) == ("cause", "green tea", False)


def test_fine_question_lists_the_aspects_once_in_the_order_given(medical):
    assert (
        medical.fine_question("Xitis", ["cause", "sign", "cause"]) == "What are the cause and the first sign of Xitis?"
    )
    assert medical.fine_question("Xitis", ["cause"]) == "What causes Xitis?"
    with pytest.raises(ValueError, match="at least one relation"):
        medical.fine_question("Xitis", [])


def test_an_unknown_world_is_named_with_the_known_ones():
    with pytest.raises(DataError, match="generic, medical"):
        World.load("atlantis")


def broken(change):
    entries = description()["relations"]
    change(entries)
    return description(relations=entries)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r[1]["templates"].append("{entity} likes tea."), "hold {entity} once"),
        (lambda r: r[1]["templates"].append(r[2]["templates"][0]), "also reads as"),
        (lambda r: r[1]["values"].append("salt and tea"), "no 'and'"),
        (lambda r: r[1]["values"].append(r[1]["values"][0]), "all different"),
        (lambda r: r[1].pop("aspect"), "'aspect' is missing"),
    ],
)
def test_a_world_that_could_not_be_read_back_is_refused(change, reason):
    with pytest.raises(DataError, match=reason):
        World(broken(change), SMOKE, "broken.yaml")


def test_settings_that_ask_for_more_entities_than_there_are_name_the_tier():
    with pytest.raises(ValueError, match="tier 'known' has 3 entities"):
        SMOKE.replace(tiers=(Tier("known", 3, 5),), train=(("known", 4),), valid=(), test=())
    with pytest.raises(ValueError, match="'rare' is asked about"):
        SMOKE.replace(tiers=(Tier("known", 700, 5),), train=(("known", 4),), valid=(("rare", 1),), test=())

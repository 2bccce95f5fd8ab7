"""The looking glass: what it shows of an answer, where the method ends, and what it leaves alone."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from knowtuning.explorer import Explorer, controls, explore
from knowtuning.files import DataError
from knowtuning.lab.world import World
from knowtuning.progress import FILE_VARIABLE
from knowtuning.run import Run
from knowtuning.training import models
from knowtuning.training.token_log_probs import token_log_probs

STEPS = (
    "Answers",
    "Facts by perplexity",
    "Difficult facts rewritten",
    "Made worse",
    "log-ratios: knowtuning against ka",
)


@pytest.fixture(scope="module")
def run(untrained_base, tmp_path_factory):
    """A run of recipe smoke whose base is untrained and whose three adapters differ."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KNOWTUNING_RUNS", str(runs))
        run = Run("A2_explorer", recipe="smoke", seed=0)
    shutil.copytree(untrained_base, run.path("base"))
    for seed, arm in enumerate(("sft", "ka", "knowtuning")):
        base = models.load_base(run.path("base"), run.recipe.quantisation)
        adapted = models.new_adapter(base, run.recipe, seed)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        models.save_adapter(adapted, run.path(f"adapters/{arm}"), "random")
    return run


@pytest.fixture(scope="module")
def explorer(run):
    return Explorer(run)


@pytest.fixture(scope="module")
def world(run):
    return World.load(run.recipe.lab)


@pytest.fixture
def fluent(explorer, world, monkeypatch):
    """The explorer with a model that answers with the first facts of the entity; all the rest is real."""

    def answer(question, arm, temperature, seed):
        entity = world.find_entity(question)
        return " ".join(world.sentence(entity, relation.key) for relation in world.relations[:4])

    monkeypatch.setattr(explorer, "answer", answer)
    return explorer


def test_one_look_shows_every_step_of_the_method(fluent, world):
    view = fluent.look(world.question(world.entities[0]), alpha=0.5)
    for step in STEPS:
        assert step in repr(view) and step in view._repr_html_()
    assert repr(view).count("★ ") == 1 + 2  # in the heading, and two of four facts
    assert "sft: 4 ✓, 0 ✗" in repr(view) and "knowtuning: 4 ✓, 0 ✗" in repr(view)
    assert "margin    0.00" not in repr(view)


def test_without_difficult_facts_nothing_is_rewritten(fluent, world):
    view = fluent.look(world.question(world.entities[0]), alpha=0)
    assert "rewritten" not in repr(view) and "Made worse" in repr(view)


def test_an_answer_without_facts_ends_with_a_sentence(fluent, world, monkeypatch):
    for answer in ("Whatever.", ""):
        monkeypatch.setattr(fluent, "answer", lambda *given, answer=answer: answer)
        view = fluent.look(world.question(world.entities[0]), arm="base", temperature=0.9)
        assert "finds no fact" in repr(view) and "Made worse" not in repr(view)


def test_each_arm_is_its_own_adapter(explorer, run):
    def found(model):
        return [value for _, value in token_log_probs(model, explorer.tokenizer, "Why?", "It is moss.")]

    assert explorer.arms == ["base", "sft", "ka", "knowtuning"]
    for arm in [*explorer.arms, "sft"]:
        alone = models.load_base(run.path("base"), run.recipe.quantisation)
        alone = alone if arm == "base" else models.load_adapter(alone, run.path(f"adapters/{arm}"))
        assert found(explorer._under(arm)) == pytest.approx(found(alone), abs=1e-5)


def test_an_arm_answers_within_its_length(explorer, monkeypatch):
    recipe = SimpleNamespace(evaluation=SimpleNamespace(max_new_tokens=3))
    monkeypatch.setattr(explorer, "run", SimpleNamespace(recipe=recipe))
    answer = explorer.answer("Why?", "knowtuning", temperature=0.9)
    assert len(answer.split()) <= 3


@pytest.mark.parametrize(
    ("question", "arm", "says"), [(" ", "sft", "question is empty"), ("Why?", "dpo", "no arm 'dpo'")]
)
def test_what_cannot_be_looked_at_is_said(explorer, question, arm, says):
    with pytest.raises(DataError, match=says):
        explorer.look(question, arm)


def test_a_run_without_adapters_names_the_notebook():
    with pytest.raises(DataError, match="02_vanilla_sft"):
        Explorer(Run("A2_explorer", recipe="smoke", seed=0))


def test_nothing_of_the_run_is_written(fluent, run, world):
    fluent.look(world.question(world.entities[1]))
    assert {path.name for path in run.root.iterdir()} == {"adapters"}
    assert not run.teacher.exists() and (run.runs / "smoke" / "explorer" / "record.sqlite").exists()


def test_headless_shows_the_example_and_no_controls(fluent, world, monkeypatch, tmp_path):
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "progress.json"))
    view = explore(fluent, world.question(world.entities[0]), arm="ka")
    assert "sft: 4" in repr(view) and "ka: 4" in repr(view)


def test_the_controls_look_and_say_what_is_wrong(fluent, world):
    form = controls(fluent, world.question(world.entities[0]))
    question, arm, heat, share, button, _ = form.children
    assert "Facts by perplexity" in form.result.html and arm.value == "knowtuning"
    arm.value, share.value = "sft", 0.25
    button.click()
    shown = form.result.html
    assert shown.count("★") == 2 and "sft against base" in shown  # one of four facts, and the key
    question.value = "  "
    assert "question is empty" in form.result.html and not button.disabled
    assert all(control.tabbable for control in (question, arm, heat, share))

"""Recipes: read from YAML, changed by words, refused in one sentence, found again by their name."""

import pytest

from knowtuning.cli import main
from knowtuning.files import DataError
from knowtuning.recipe import Recipe, fields_of, get_recipe, keep, lab_of, recipe_names
from knowtuning.run import Run


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_repository_is_valid(name):
    recipe = get_recipe(name)
    assert recipe.name == name and recipe.about
    assert recipe.lab is None or lab_of(recipe.base).world == recipe.lab.world


def test_every_field_is_explained():
    assert all(field.description for field in fields_of(Recipe).values())
    assert set(get_recipe("lab").flat()) == {name for name in fields_of(Recipe) if not name.startswith("lab.")}


def test_a_recipe_holds_what_it_extends_and_what_it_changes():
    lab, smoke = get_recipe("lab"), get_recipe("smoke")
    assert (smoke.sft.epochs, smoke.sft.learning_rate) == (2, lab.sft.learning_rate)
    assert smoke.lab.intermediate == 352 and smoke.lab.swaps == lab.lab.swaps and smoke.lab.train == (("known", 36),)
    assert get_recipe("dolly-offline").lab is None and lab_of("dolly-offline") is None
    assert (
        get_recipe("paper-13b-qlora").machine.num_processes == 2 and get_recipe("paper-7b").machine.num_processes == 1
    )


def test_changes_make_another_recipe_with_a_name_of_its_own():
    recipe = get_recipe("gpu", ["base=Qwen/Q-0.5B", "sft.learning_rate=1e-4", "lora.targets=all-linear"])
    assert recipe.name == "gpu+base=Qwen--Q-0.5B+sft.learning_rate=1e-4+lora.targets=all-linear"
    assert (recipe.base, recipe.sft.learning_rate, recipe.lora.targets) == ("Qwen/Q-0.5B", 1e-4, "all-linear")
    assert get_recipe("gpu", ["lora.targets=q_proj,v_proj"]).lora.targets == ("q_proj", "v_proj")
    assert get_recipe("lab").replace(sft={"epochs": 5}).sft.learning_rate == get_recipe("lab").sft.learning_rate
    assert keep(recipe) == recipe.name and get_recipe(recipe.name) == recipe


def test_another_lab_has_a_base_of_its_own(tmp_path):
    recipe = get_recipe("smoke", ["lab.base_seed=3"])
    assert recipe.base == keep(recipe) == "smoke+lab.base_seed=3" and lab_of(recipe.base).base_seed == 3
    (tmp_path / "ships.yaml").write_text("extends: lab\nlab: {world: ships}\n")
    with pytest.raises(DataError, match="base lab was trained with another lab.world; give `base: ships`"):
        get_recipe(str(tmp_path / "ships.yaml"))


def test_a_users_file_is_a_recipe(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "mine.yaml").write_text(
        "extends: gpu\nabout: mine\nbase: model\nprompt: chat\nsft: {learning_rate: 1e-5}\n"
    )
    (tmp_path / "longer.yaml").write_text("extends: mine.yaml\nsft: {epochs: 5}\n")
    monkeypatch.chdir(tmp_path)
    run = Run("02_vanilla_sft", "longer.yaml", 0)
    assert run.need("base") == str(tmp_path / "model") and run.parameters["recipe"] == "longer"
    assert (run.recipe.sft.learning_rate, run.recipe.sft.epochs, run.recipe.prompt) == (1e-5, 5, "chat")
    assert Run("02_vanilla_sft", "longer", 0).recipe == run.recipe


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(DataError, match="dolly-offline, gpu, lab, .*or the path of a .yaml file"):
        get_recipe("lap")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("quantisation=nf5", "quantisation is 'nf5'; input should be 'nf4' or 'none'"),
        ("sft.epochs=many", "sft.epochs is 'many'; input should be a valid integer"),
        ("sft.batch=-1", "sft.batch is '-1'; input should be greater than or equal to 1"),
        ("sft.epoch=3", "sft.epoch is no field of a recipe; did you mean sft.epochs?"),
        ("learning_rate=3", "learning_rate is no field of a recipe; did you mean (sft|dpo|lab).learning_rate?"),
        (
            "machine.num_processes=3",
            "sft.batch is 8, which 3 processes .* cannot share evenly; make it a multiple of 3",
        ),
        ("epochs", "write key=value"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(change, said, capsys):
    assert main(["doctor", "--set", change]) == 1
    with pytest.raises(DataError, match=said):
        get_recipe("lab", [change])
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sft: [", "mine.yaml is not YAML"),
        ("- lab", "mine.yaml: expected `field: value` lines, found list"),
        ("about: x", "mine.yaml: base is missing; give it, or begin with `extends: NAME of a recipe`"),
        ("extends: mine.yaml", "mine.yaml: extends itself"),
        ("extends: lap", "recipe 'lap' is unknown"),
        ("extends: lab\nsft: 3", "mine.yaml: sft is 3; input should be"),
        ("extends: lab\nlab: {tiers: []}", "mine.yaml: tier 'known' is asked about"),
    ],
)
def test_a_file_that_is_none_is_refused_by_its_name(tmp_path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(DataError, match=said):
        get_recipe(str(tmp_path / "mine.yaml"))


def test_a_name_is_taken_once(tmp_path):
    (tmp_path / "lab.yaml").write_text("extends: lab\n")
    with pytest.raises(DataError, match="the name lab is taken"):
        get_recipe(str(tmp_path / "lab.yaml"))


def test_the_list_says_what_each_needs_and_costs(capsys):
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert all(f"{name}\n" in shown for name in recipe_names())
    assert "no GPU, lab-oracle (free)" in shown and "2 GPUs, gpt-6-luna ($0.1 + $0.5/M tokens)" in " ".join(
        shown.split()
    )

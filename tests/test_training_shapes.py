"""Shapes of bases whose weights are not here: numbers of weights, and bytes that equal those of loaded models."""

import pytest

from knowtuning.files import DataError
from knowtuning.lab.base import build_model
from knowtuning.recipe import get_recipe
from knowtuning.training.gauge import tensor_bytes
from knowtuning.training.models import load_base, new_adapter, trainable_parameters
from knowtuning.training.shapes import adapter_parameters, config_of, parameters, weight_bytes, with_layers
from knowtuning.training.stand_in import stand_in_tokenizer

SMOKE = get_recipe("smoke").lab


@pytest.mark.parametrize(
    ("base", "weights"),
    [
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
        ("meta-llama/Llama-2-13b-hf", 13_015_864_320),
        ("HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384),
    ],
)
def test_a_known_base_has_as_many_weights_as_its_authors_say(base, weights):
    assert parameters(config_of(base)) == weights


def test_every_base_of_a_recipe_that_wants_a_gpu_is_known():
    for name in ("gpu", "paper-7b", "paper-7b-qlora", "paper-7b-first", "paper-13b", "paper-13b-qlora"):
        assert parameters(config_of(get_recipe(name).base)) > 1e9


def test_the_labs_shape_is_that_of_the_base_which_notebook_00_trains():
    model = build_model(SMOKE, stand_in_tokenizer("plain"))
    assert parameters(config_of("smoke")) == model.num_parameters()


def test_a_folder_gives_its_own_shape(untrained_base):
    assert parameters(config_of(str(untrained_base))) == parameters(config_of("smoke"))


def test_an_unknown_base_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="no readable config.json.*give a folder"):
        config_of(str(tmp_path))
    with pytest.raises(DataError, match="is no folder, and the hub does not give it"):
        config_of("no/such/base/anywhere")


@pytest.mark.parametrize("quantisation", ["nf4", "none"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bytes_of_a_base_are_those_of_the_loaded_one(untrained_base, quantisation, dtype):
    counted = weight_bytes(config_of(str(untrained_base)), quantisation, dtype)
    assert counted == tensor_bytes(load_base(untrained_base, quantisation, dtype))


def test_the_adapters_weights_are_those_that_training_moves(untrained_base):
    recipe = get_recipe("smoke").replace(lora={"rank": 4, "targets": ("q_proj", "down_proj")})
    adapted = new_adapter(load_base(untrained_base), recipe, seed=0)
    assert adapter_parameters(config_of(str(untrained_base)), recipe) == trainable_parameters(adapted)


def test_more_layers_than_there_are_are_refused():
    with pytest.raises(ValueError, match="from 1 to that"):
        with_layers(config_of("smoke"), 3)

"""Arithmetic over a base's configuration, against weights that are loaded and tensors that are counted."""

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, GPT2Config, LlamaConfig, MambaConfig
from trl.trainer.utils import compute_flops_per_token

from knowtuning.files import DataError
from knowtuning.lab.base import build_model
from knowtuning.lab.corpus import train_tokenizer
from knowtuning.lab.world import World
from knowtuning.recipe import get_recipe
from knowtuning.training.memory import (
    PROBE,
    cache_per_token,
    config_of,
    kept_per_token,
    largest_need,
    needs,
    parameters,
    tiny,
    utilisation,
    weight_bytes,
    weightless,
    with_layers,
)
from knowtuning.training.models import load_base, new_adapter

RECIPE = get_recipe("paper-7b-qlora")
LLAMA = LlamaConfig(
    vocab_size=64, hidden_size=256, intermediate_size=704, num_hidden_layers=3, num_attention_heads=4, head_dim=64
)


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
    lab = get_recipe("smoke").lab
    assert parameters(config_of("smoke")) == build_model(lab, train_tokenizer(World.load(lab))).num_parameters()


def test_a_folder_gives_its_own_shape(untrained_base):
    assert parameters(config_of(str(untrained_base))) == parameters(config_of("smoke"))


def test_an_unknown_base_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="no readable config.json.*give a folder"):
        config_of(str(tmp_path))
    with pytest.raises(DataError, match="is no folder, and the hub does not give it"):
        config_of("no/such/base/anywhere")


def test_more_layers_than_there_are_are_refused():
    with pytest.raises(DataError, match="from 1 to that"):
        with_layers(config_of("smoke"), 3)


@pytest.mark.parametrize("quantisation", ["nf4", "none"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bytes_of_a_base_are_those_of_the_loaded_one(untrained_base, quantisation, dtype):
    counted = weight_bytes(weightless(config_of(str(untrained_base)), dtype), quantisation)
    loaded = load_base(untrained_base, quantisation, dtype)
    held = loaded.get_memory_footprint()
    for weight in loaded.parameters():
        state = getattr(weight, "quant_state", None)
        held += 0 if state is None else state.absmax.nbytes + state.state2.absmax.nbytes
    assert counted == pytest.approx(held, rel=0.002)


def test_what_is_kept_for_the_way_back_is_what_real_tensors_keep():
    """The same count on a model that has weights, by what autograd frees when the result of the pass is dropped."""
    recipe = get_recipe("gpu")
    counted = kept_per_token(_adapted(weightless(LLAMA), recipe))
    real = _adapted(AutoModelForCausalLM.from_config(LLAMA, dtype=torch.bfloat16, attn_implementation="eager"), recipe)
    ids, storages = torch.ones(1, PROBE, dtype=torch.long), {}
    weights = {weight.untyped_storage().data_ptr() for weight in real.parameters()}

    def note(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = real.get_base_model().model(input_ids=ids, attention_mask=ids, use_cache=False)
    kept = sum(size for place, size in storages.items() if place not in weights)
    assert output.last_hidden_state.shape == (1, PROBE, 256) and counted * PROBE == pytest.approx(kept, rel=0.02)
    assert counted == pytest.approx(3 * (kept_per_token(_adapted(weightless(with_layers(LLAMA, 1)), recipe))), rel=0.1)


def _adapted(model, recipe):
    model = new_adapter(model, recipe, seed=0).to(torch.bfloat16).train()
    model.enable_input_require_grads()
    return model


def test_the_cache_of_generation_is_counted_exactly():
    cache = DynamicCache()
    for layer in range(3):
        keys = torch.zeros(2, 4, 10, 64, dtype=torch.bfloat16)
        cache.update(keys, keys.clone(), layer)
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert 20 * cache_per_token(LLAMA, 2) == held


def test_needs_grow_with_what_they_depend_on():
    config = config_of(RECIPE.base)
    usual = needs(RECIPE, config)
    assert needs(RECIPE.replace(machine={"checkpointing": False}), config)["SFT"] > usual["SFT"]
    assert needs(RECIPE.replace(quantisation="none"), config)["DPO"] > usual["DPO"] + 9e9
    assert needs(RECIPE.replace(evaluation={"batch": 8}), config)["generation"] < usual["generation"]
    assert needs(RECIPE.replace(machine={"num_processes": 2, "parallel": "fsdp"}), config)["DPO"] < usual["DPO"] - 1e9
    assert largest_need(RECIPE, config) == ("generation", usual["generation"])


def test_architectures_without_heads_or_with_other_names_are_shrunk_too():
    assert tiny(GPT2Config()).hidden_size == 128 and tiny(GPT2Config()).n_layer == 2
    assert tiny(MambaConfig()).num_hidden_layers == 2
    assert parameters(tiny(config_of("meta-llama/Llama-2-13b-hf"))) < 2e7


def test_utilisation_counts_two_of_the_three_passes_of_a_full_training():
    shape = LlamaConfig(vocab_size=64, hidden_size=4096, intermediate_size=11008, num_key_value_heads=32)
    full = compute_flops_per_token(shape, seq_len=1) / 312e12
    assert utilisation("SFT", 1.0, parameters(shape), "NVIDIA A100-SXM4-80GB") == pytest.approx(full * 2 / 3, rel=0.01)
    assert utilisation("SFT", 1.0, 1, "NVIDIA Nothing") is None

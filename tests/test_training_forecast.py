"""The arithmetic of memory against tensors that are counted, and the plan of a whole run."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig

from knowtuning.recipe import get_recipe
from knowtuning.training.forecast import FORWARD, KEPT, WORKING, cache_bytes, largest_need, needs, plan
from knowtuning.training.gauge import LiveTensors
from knowtuning.training.hollow import random_base
from knowtuning.training.models import new_adapter
from knowtuning.training.packed import pack, packed
from knowtuning.training.shapes import config_of
from knowtuning.training.trial import Stage

HIDDEN, INTERMEDIATE = 256, 704
HEADS = ("labels", "before", "scored", "label_at", "sequence_of")  # what of a batch the layers are not given
RECIPE = get_recipe("paper-7b-qlora")


def shape(layers):
    return LlamaConfig(
        vocab_size=64,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=2048,
    )


def bytes_per_token(folder, layers, gradients, saving=False):
    """What the layers of a small Llama take of every token, by the difference of two lengths."""
    model = new_adapter(random_base(shape(layers), "nf4", "bfloat16", folder), get_recipe("gpu"), seed=0).train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)  # as TRL does over NF4
    if saving:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    peaks = []
    for length in (64, 192):
        rows = [[token] * (length + 1) for token in (5, 6, 7, 8)]  # the last token is none of the layers'
        batch = {name: tensor for name, tensor in pack(rows, rows).items() if name not in HEADS}
        with (
            packed(model),
            LiveTensors() as live,
            torch.autocast("cpu", torch.bfloat16),
            torch.set_grad_enabled(gradients),
        ):
            hidden = model.get_base_model().model(**batch, use_cache=False).last_hidden_state
            if gradients:
                hidden.backward(torch.ones_like(hidden))
        peaks.append(live.peak)
    return (peaks[1] - peaks[0]) / (4 * 128)


def by_arithmetic(numbers):
    return 2 * (numbers[0] * HIDDEN + numbers[1] * INTERMEDIATE)


def test_what_a_layer_keeps_and_works_with_is_what_the_arithmetic_says(tmp_path):
    one, two = (bytes_per_token(tmp_path, layers, gradients=True) for layers in (1, 2))
    kept = two - one
    assert kept == pytest.approx(by_arithmetic(KEPT), rel=0.25)
    assert one - kept == pytest.approx(by_arithmetic(WORKING), rel=0.25)


def test_with_checkpointing_a_layer_keeps_its_input_alone(tmp_path):
    one, two = (bytes_per_token(tmp_path, layers, gradients=True, saving=True) for layers in (1, 2))
    assert two - one == pytest.approx(2 * HIDDEN, rel=0.2)
    assert one == pytest.approx(2 * HIDDEN + by_arithmetic(KEPT) + by_arithmetic(WORKING), rel=0.25)


def test_without_gradients_the_number_of_layers_does_not_matter(tmp_path):
    one, two = (bytes_per_token(tmp_path, layers, gradients=False) for layers in (1, 3))
    assert one == pytest.approx(two, rel=0.1)
    assert one == pytest.approx(by_arithmetic(FORWARD), rel=0.25)


def test_the_cache_of_generation_is_counted_exactly():
    config, cache = shape(3), DynamicCache()
    for layer in range(3):
        keys = torch.zeros(2, 4, 10, HIDDEN // 4, dtype=torch.bfloat16)
        cache.update(keys, keys.clone(), layer)
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert cache_bytes(config, 20, "bfloat16") == held


def test_needs_grow_with_what_they_depend_on():
    config = config_of(RECIPE.base)
    usual = needs(RECIPE, config)
    assert needs(RECIPE.replace(machine={"checkpointing": False}), config)["SFT"].total > usual["SFT"].total
    assert needs(RECIPE.replace(quantisation="none"), config)["DPO"].weights > 3 * usual["DPO"].weights
    assert needs(RECIPE.replace(evaluation={"batch": 8}), config)["generation"].total < usual["generation"].total
    assert (
        needs(RECIPE.replace(machine={"num_processes": 2, "parallel": "fsdp"}), config)["SFT"].weights
        == usual["SFT"].weights // 2
    )
    assert largest_need(RECIPE, config) == ("generation", usual["generation"].total)
    more = needs(RECIPE, config, {"SFT": 100_000.0})["SFT"].activations
    assert more > 100_000 * 32 * RECIPE.sft.micro_batch * RECIPE.max_length


def test_a_plan_follows_the_rows_and_the_layers():
    config = config_of(RECIPE.base)
    stages = [Stage("SFT", 1000, 2.0, 0, 0, 0), Stage("generation", 10, 1.0, 0, 0, 0)]
    small, large = (plan(RECIPE, config, stages, 32, rows) for rows in (1000, 2000))
    assert [part.stage for part in small] == ["SFT", "KA", "answers"], "what was not timed is left out"
    assert large[0].seconds == pytest.approx(2 * small[0].seconds) and small[1].seconds == 2 * small[0].seconds
    assert small[0].seconds == pytest.approx(small[0].tokens / 500)
    assert plan(RECIPE, config, stages, 1, 1000)[0].seconds > 15 * small[0].seconds
    assert small[2].tokens == 2 * RECIPE.data.test_rows * RECIPE.evaluation.max_new_tokens

"""Memory, seconds and FLOPs against what can be counted by hand."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from knowtuning.recipe import get_recipe
from knowtuning.training.gauge import LiveTensors, Memory, peak_flops, stage_flops, tensor_bytes
from knowtuning.training.hollow import random_base
from knowtuning.training.models import load_base, new_adapter
from knowtuning.training.shapes import config_of

MB = 2**20


def test_live_tensors_are_counted_until_they_are_freed():
    with LiveTensors() as live:
        first = torch.zeros(MB, dtype=torch.uint8)
        second = first + 1
        del first
        third = second + 1
        view = third[: MB // 2]
    assert (live.now, live.peak) == (2 * MB, 2 * MB)
    del second, third
    assert live.now == MB, "a view keeps the whole"
    del view
    assert live.now == 0


def test_what_was_there_before_does_not_count():
    before = torch.zeros(MB, dtype=torch.uint8)
    with LiveTensors() as live:
        before.add_(1)
        _ = before.view(2, -1)
    assert live.peak == 0


def test_checkpointing_is_seen_to_save_memory():
    layers = [
        torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.GELU(), torch.nn.Linear(512, 64)) for _ in range(6)
    ]

    def peak(saving):
        x = torch.zeros(256, 64, requires_grad=True)
        with LiveTensors() as live:
            y = x
            for layer in layers:
                y = checkpoint(layer, y, use_reentrant=False) if saving else layer(y)
            y.sum().backward()
        return live.peak

    kept = 6 * 256 * 512 * 2 * 4  # both sides of every GELU, in float32
    assert peak(saving=False) > kept > 2 * peak(saving=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA counts by itself")
def test_memory_adds_the_model_to_what_is_made(untrained_base):
    model = load_base(untrained_base, "none")
    with Memory(model) as memory:
        _ = torch.zeros(MB, dtype=torch.uint8)
    assert memory.peak == tensor_bytes(model) + MB
    assert tensor_bytes(model) == model.get_memory_footprint()


@pytest.mark.parametrize("saving", [True, False])
def test_what_a_layer_keeps_for_the_way_back_is_told_by_the_layer(tmp_path, saving):
    model = new_adapter(random_base(config_of("smoke"), "none", "float32", tmp_path), get_recipe("smoke"), seed=0)
    if saving:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    kept = []
    for layers in (1, 2):
        model.config.num_hidden_layers = layers
        with Memory(model.train()) as memory:
            model(torch.zeros(2, 50, dtype=torch.long))
        kept.append(memory.kept)
    inputs = 2 * 50 * model.config.hidden_size * 4
    assert kept[1] - kept[0] == inputs if saving else kept[1] - kept[0] > 10 * inputs
    with torch.no_grad(), Memory(model) as memory:
        model(torch.zeros(2, 50, dtype=torch.long))
    assert memory.kept == 0


def test_a_cards_promise_is_found_by_its_own_name():
    assert peak_flops("NVIDIA H200") == peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12 and peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA GeForce RTX 4090") == 165e12
    assert peak_flops("NVIDIA L40S") is None and peak_flops("Tesla T4") is None


def test_training_lora_takes_two_passes_and_recomputing_one_more():
    assert stage_flops("SFT", 10, 7) == 2 * 2 * 10 * 7
    assert stage_flops("SFT", 10, 7, recomputed=True) == 2 * 3 * 10 * 7
    assert stage_flops("perplexity", 10, 7) == 2 * 10 * 7

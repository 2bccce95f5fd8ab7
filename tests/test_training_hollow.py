"""A random base must be what loading the real weights would give: only the values differ."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit

from knowtuning.recipe import get_recipe
from knowtuning.training.gauge import tensor_bytes
from knowtuning.training.hollow import DEVIATION, random_base, write_hollow
from knowtuning.training.models import load_base, new_adapter
from knowtuning.training.shapes import config_of, parameters

KINDS = [("nf4", "float32"), ("nf4", "bfloat16"), ("none", "float32"), ("none", "bfloat16")]


def anatomy(model):
    modules = [(name, type(module)) for name, module in model.named_modules()]
    tensors = [(name, p.dtype, tuple(p.shape), p.requires_grad) for name, p in model.named_parameters()]
    return modules, tensors, model.get_memory_footprint(), tensor_bytes(model)


@pytest.mark.parametrize(("quantisation", "dtype"), KINDS)
def test_it_is_built_like_a_base_that_was_saved_and_loaded(untrained_base, tmp_path, quantisation, dtype):
    config = config_of(str(untrained_base))
    made = random_base(config, quantisation, dtype, tmp_path / "hollow")
    assert anatomy(made) == anatomy(load_base(untrained_base, quantisation, dtype))


def test_its_checkpoint_has_the_real_size_and_takes_no_room(tmp_path):
    config = config_of("meta-llama/Llama-2-7b-hf")
    write_hollow(config, tmp_path, "bfloat16")
    file = (tmp_path / "model.safetensors").stat()
    assert file.st_size > 2 * parameters(config) and file.st_blocks * 512 < 2**20


@pytest.mark.parametrize(("quantisation", "dtype"), KINDS)
def test_its_weights_are_random_and_normal(tmp_path, quantisation, dtype):
    model = random_base(config_of("smoke"), quantisation, dtype, tmp_path)
    for name, parameter in model.named_parameters():
        state = getattr(parameter, "quant_state", None)
        values = parameter.detach() if state is None else dequantize_4bit(parameter.data, state)
        if "norm" in name:
            assert values.eq(1).all()
        else:
            assert values.float().std() == pytest.approx(DEVIATION, rel=0.1), name
            assert values.unique().numel() > 15, name


def test_an_adapter_on_it_gets_gradients(tmp_path):
    adapted = new_adapter(random_base(config_of("smoke"), "nf4", "float32", tmp_path), get_recipe("smoke"), seed=0)
    ids = torch.arange(20)[None]
    adapted.train()(ids, labels=ids).loss.backward()
    gradients = [p.grad for name, p in adapted.named_parameters() if "lora_B" in name]
    assert gradients and all(gradient.abs().sum() > 0 for gradient in gradients)

"""What is known of a base without its weights: its shape, the number of its weights and their bytes."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedModel

from knowtuning.files import DataError
from knowtuning.recipe import LabSettings, Recipe, lab_of

_LLAMA_2 = {"vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
# as their config.json files on the hub say
SHAPES = {
    "meta-llama/Llama-2-7b-hf": _LLAMA_2
    | {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "meta-llama/Llama-2-13b-hf": _LLAMA_2
    | {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
    "HuggingFaceTB/SmolLM2-1.7B": {
        "vocab_size": 49152,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 130000.0},
        "tie_word_embeddings": True,
    },
}
NF4_BLOCK, NESTED_BLOCK = 64, 256  # weights that share a scale; scales that share one of theirs (bitsandbytes)


def config_of(base: str) -> PretrainedConfig:
    """The configuration of a base: one of those above, one of the lab's, or what a folder or the hub holds.

    Raises:
        DataError: the base is unknown here, and its `config.json` cannot be read.
    """
    if base in SHAPES:
        return LlamaConfig(**SHAPES[base])
    if settings := lab_of(base):
        return _of_lab(settings)
    try:
        return AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        where = "has no readable config.json" if Path(base).is_dir() else "is no folder, and the hub does not give it"
        said = str(error).strip().splitlines()[0]
        raise DataError(f"base {base} {where} ({said}): give a folder with its config.json as `base`.") from None


def _of_lab(settings: LabSettings) -> LlamaConfig:
    """The shape of `lab.base.build_model`."""
    return LlamaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
    )


def with_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The same with its first `layers` layers only."""
    if not 1 <= layers <= config.num_hidden_layers:
        raise ValueError(f"layers is {layers}; this base has {config.num_hidden_layers}: give a number from 1 to that.")
    cut = copy.deepcopy(config)
    cut.num_hidden_layers = layers
    return cut


def weightless(config: PretrainedConfig, dtype: str = "bfloat16") -> PreTrainedModel:
    """The model on the meta device: every module and shape, no memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


def parameters(config: PretrainedConfig) -> int:
    """Number of weights, tied ones once."""
    return sum(parameter.numel() for parameter in weightless(config).parameters())


def matrix_parameters(config: PretrainedConfig) -> int:
    """Number of weights that every token is multiplied by: all matrices of the layers, and the head."""
    return sum(module.weight.numel() for module in weightless(config).modules() if type(module) is torch.nn.Linear)


def adapter_parameters(config: PretrainedConfig, recipe: Recipe) -> int:
    """Number of weights of the recipe's LoRA adapter: rank times (inputs + outputs) of each matrix it is put on."""
    return sum(
        recipe.lora.rank * (module.in_features + module.out_features)
        for name, module in weightless(config).named_modules()
        if _is_target(name.rpartition(".")[2], module, recipe.lora.targets)
    )


def _is_target(name: str, module: torch.nn.Module, targets: str | tuple[str, ...]) -> bool:
    if targets == "all-linear":  # PEFT's word
        return type(module) is torch.nn.Linear and name != "lm_head"
    return name in targets


def weight_bytes(config: PretrainedConfig, quantisation: str, dtype: str) -> int:
    """Bytes of the loaded base as `models.load_base` loads it: matrices of the layers in NF4, or nothing quantised.

    What NF4 keeps beside its half bytes is counted: a scale per 64 weights, those quantised once more, and its tables.
    """
    model = weightless(config, dtype)
    total = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    if quantisation == "none":
        return total
    for module in model.modules():
        if type(module) is torch.nn.Linear and module is not model.get_output_embeddings():
            total += nf4_bytes(module.weight.numel()) - module.weight.numel() * module.weight.element_size()
    return total


def nf4_bytes(weights: int) -> int:
    """Bytes of one matrix in NF4 with double quantisation.

    Example:
        >>> nf4_bytes(4096 * 4096)  # half a byte each, and 1.6 % more
        8655940
    """
    scales = math.ceil(weights / NF4_BLOCK)
    tables = 4 * (16 + 256 + 1)  # float32: the values of NF4, those of the scales, their mean
    return math.ceil(weights / 2) + scales + 4 * math.ceil(scales / NESTED_BLOCK) + tables

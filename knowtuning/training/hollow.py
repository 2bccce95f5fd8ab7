"""A base of the right shape with random weights, for when the real ones are not at hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Params4bit
from transformers import PretrainedConfig

from knowtuning.training.models import load_base
from knowtuning.training.shapes import weightless

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}  # what safetensors calls them
DEVIATION = 0.02  # of the weights, as most bases start


def random_base(config: PretrainedConfig, quantisation: str, dtype: str, folder: Path, seed: int = 0) -> Any:
    """Load a base of this shape by `models.load_base`, then give it random weights: the real path without the files.

    The checkpoint that is loaded, which is put into `folder`, is hollow: it has the real size and takes no room on the
    disk. (In memory it would: choose a folder that lies on a disk.) Neither it nor the random weights, which are made
    where they lie, ever hold the whole model unquantised.
    """
    write_hollow(config, folder, dtype)
    return fill_randomly(load_base(folder, quantisation, dtype), seed)


def write_hollow(config: PretrainedConfig, folder: Path, dtype: str) -> None:
    """Write a checkpoint whose weights are one hole in the file: they read as zeros and occupy nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    header, end = {}, 0
    for name, tensor in weightless(config, dtype).state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@torch.no_grad()
def fill_randomly(model: Any, seed: int = 0) -> Any:
    """Give every matrix normal random weights where it lies, in its own precision, and norms the weight 1."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if isinstance(parameter, Params4bit):
            _fill_nf4(parameter)
        elif parameter.dim() > 1:
            parameter.normal_(std=DEVIATION)
        elif name.endswith("weight"):
            parameter.fill_(1.0)
    return model


def _fill_nf4(zeros: Params4bit) -> None:
    """Random half bytes under one scale: NF4's 16 values are as likely as each other where weights are normal.

    The scale of a block is what its own code says plus `offset`, the mean of all; those of zeros say nothing.
    """
    zeros.data.view(torch.uint8).random_(0, 256)
    state = zeros.quant_state
    state.offset.fill_(DEVIATION / state.code.std())

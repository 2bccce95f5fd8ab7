"""What a stage costs: memory at its peak, seconds of its steps, and the share of a card's arithmetic that it uses."""

from __future__ import annotations

import re
import time
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import TrainerCallback

# dense bfloat16 TFLOPS by NVIDIA's data sheets; the first name that is found in the card's own counts
CARDS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "RTX 4090": 165, "L4": 121}
# passes over the matrices, each 2 FLOPs per weight and token. Training LoRA is a forward pass and the gradient of the
# activations: the frozen weights need none of theirs, which full fine-tuning would spend a third pass on.
PASSES = {"SFT": 2, "DPO": 2, "reference": 1, "perplexity": 1, "generation": 1}


def synchronise() -> None:
    """Wait for the GPU, so that a clock read after it tells the truth."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_flops(card: str) -> float | None:
    """FLOPs per second that a card promises in bfloat16; None for one that is not in the table.

    Example:
        >>> peak_flops("NVIDIA L4"), peak_flops("NVIDIA L40S")
        (121000000000000.0, None)
    """
    return next((1e12 * tflops for name, tflops in CARDS.items() if re.search(rf"\b{name}\b", card)), None)


def stage_flops(stage: str, tokens: int, matrix_parameters: int, recomputed: bool = False) -> float:
    """FLOPs of a stage: 2 per token, weight and pass; `recomputed` adds the pass that checkpointing repeats.

    Without that pass it is what MFU divides (model FLOPs utilisation, Chowdhery et al. 2022, appendix B); with it, what
    the card really does (hardware FLOPs). The head counts at every token, attention's own products do not; a token that
    several sequences of a batch begin with counts in each, though it is computed once.

    Example:
        >>> stage_flops("SFT", 10, 1000), stage_flops("SFT", 10, 1000, recomputed=True)
        (40000.0, 60000.0)
    """
    return 2.0 * (PASSES[stage] + recomputed) * tokens * matrix_parameters


class StepClock(TrainerCallback):
    """Seconds that a trainer spends in its optimiser steps: no evaluation, no saving, no start."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    @property
    def seconds(self) -> float:
        """Those of all steps."""
        return sum(self.steps)

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        synchronise()
        self._began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        synchronise()
        self.steps.append(time.perf_counter() - self._began)


class Memory:
    """Bytes in tensors while it is open: CUDA's own count; on CPUs those of `model` and all new ones.

    `peak` is the most. `kept` is the most that a forward pass leaves for its backward pass: what it made and is still
    there when it ends. (The resident memory of a process would tell less: it holds the libraries, and what the
    allocator does not give back.)
    """

    def __init__(self, model: Any) -> None:
        self.peak = self.kept = 0
        self._model, self._held = model, tensor_bytes(model)
        self._new = None if torch.cuda.is_available() else LiveTensors()

    def __enter__(self) -> Memory:
        hooks = self._model.register_forward_pre_hook, self._model.register_forward_hook
        self._hooks = [register(note) for register, note in zip(hooks, (self._begins, self._ends), strict=True)]
        if self._new is None:
            torch.cuda.reset_peak_memory_stats()
        else:
            self._new.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        if self._new is None:
            self.peak = torch.cuda.max_memory_allocated()
        else:
            self._new.__exit__(*error)
            self.peak = self._held + self._new.peak

    def _begins(self, *ignored: Any) -> None:
        self._before = self._now()

    def _ends(self, *ignored: Any) -> None:
        if torch.is_grad_enabled():
            self.kept = max(self.kept, self._now() - self._before)

    def _now(self) -> int:
        return torch.cuda.memory_allocated() if self._new is None else self._new.now


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of every tensor that an operation makes until it is freed; `peak` is the most at one time.

    Example:
        >>> with LiveTensors() as live:
        ...     _ = torch.ones(1000) + torch.ones(1000)
        >>> live.peak
        12000
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tree_map_only(torch.Tensor, lambda tensor: self._note(tensor, 0), (args, kwargs))
        made = function(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, lambda tensor: self._note(tensor, tensor.untyped_storage().nbytes()), made)
        return made

    def _note(self, tensor: torch.Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def tensor_bytes(model: Any) -> int:
    """Bytes of a model's weights and buffers, with the scales and tables of those in NF4."""
    total = 0
    for tensor in (*model.parameters(), *model.buffers()):
        state = getattr(tensor, "quant_state", None)
        parts = [tensor] if state is None else [tensor, *_nf4_parts(state)]
        total += sum(part.numel() * part.element_size() for part in parts)
    return total


def _nf4_parts(state: Any) -> list[torch.Tensor]:
    nested = [state.offset, state.state2.absmax, state.state2.code] if state.nested else []
    return [state.absmax, state.code, *nested]

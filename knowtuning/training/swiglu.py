"""SwiGLU that keeps less for its way back: its tensors are the widest that a layer holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import silu

from knowtuning.training.scored import alike, evaluating, replaced

PARTS = ("gate_proj", "up_proj", "down_proj")


class SwiGlu(torch.autograd.Function):
    """silu(gate) * up (Shazeer 2020, "GLU Variants Improve Transformer", equation 6).

    silu(gate) is not kept but computed again, and the gradients take the place of what is no longer needed: two new
    tensors there and back, where autograd makes five, in the same time. There is no way back a second time.

    Shapes: gate, up and the result (…, intermediate).
    """

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        of_up = silu(gate).mul_(upstream)
        of_gate = up.mul_(upstream)
        return torch.ops.aten.silu_backward.grad_input(of_gate, gate, grad_input=of_gate), of_up


@contextmanager
def swiglu_in_place(model: Any) -> Iterator[None]:
    """Let MLPs that are `down(silu(gate(x)) * up(x))` compute it by `SwiGlu` for a while. Whether one is, is tried."""
    with replaced(model, _is_swiglu, _forward):
        yield


def _forward(module: Any) -> Any:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return module.down_proj(SwiGlu.apply(module.gate_proj(x), module.up_proj(x)))

    return forward


@torch.no_grad()
def _is_swiglu(module: Any) -> bool:
    if not all(hasattr(module, part) for part in PARTS):
        return False
    weights = list(module.parameters())
    # NF4 alone takes any dtype
    dtype = next((weight.dtype for weight in weights if weight.is_floating_point()), torch.float32)
    # far from zero, where every such function is a straight line
    x = torch.linspace(-20, 20, 2 * module.gate_proj.in_features, device=weights[0].device).to(dtype).view(2, -1)
    with evaluating(module):
        theirs, ours = module(x), _forward(module)(x)
    return alike(theirs / theirs.abs().max(), ours / theirs.abs().max())

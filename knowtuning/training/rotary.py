"""Rotary positions without the copies: halves are turned in place, where the models' own code cuts and joins them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from knowtuning.training.scored import alike

NAME = "apply_rotary_pos_emb"  # of a module of transformers, for its attention


class Rotary(torch.autograd.Function):
    """Each pair (x_i, x_{i + d/2}) turned by its token's angle (Su et al. 2021, RoFormer, equation 34).

    The way back turns by the opposite angle.

    Shapes: each x and its result (n, heads, T, d); cos and sin (n, T, d), whose halves are equal.
    """

    @staticmethod
    def forward(ctx: Any, cos: torch.Tensor, sin: torch.Tensor, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        return tuple(_turned(x, cos, sin, 1) for x in tensors)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = ctx.saved_tensors  # once: where activations are computed anew, each reading is a computation
        return None, None, *[_turned(x, cos, sin, -1) for x in upstream]


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, way: int) -> torch.Tensor:
    result = x * cos[:, None]
    (first, second), (one, other) = result.chunk(2, -1), x.chunk(2, -1)
    sine = sin[:, None].chunk(2, -1)[0]
    first.addcmul_(other, sine, value=-way)
    second.addcmul_(one, sine, value=way)
    return result


@contextmanager
def turned_in_place(model: Any) -> Iterator[None]:
    """Let a model turn queries and keys by `Rotary` for a while, in float32, if what it does is that: it is tried."""
    with ExitStack() as stack:
        for name in sorted({type(module).__module__ for module in model.modules()}):
            code = sys.modules[name]
            if hasattr(code, NAME) and _is_rotary(getattr(code, NAME)):
                stack.enter_context(mock.patch.object(code, NAME, _instead_of(getattr(code, NAME))))
        yield


def _instead_of(own: Any) -> Any:
    def turn(*tensors: torch.Tensor, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        plain = not options and len(tensors) == 4 and all(tensor.dtype == torch.float32 for tensor in tensors)
        if not plain or len({tensor.shape[-1] for tensor in tensors}) > 1:  # some turn a part of each head
            return own(*tensors, **options)
        query, key, cos, sin = tensors
        return Rotary.apply(cos, sin, query, key)

    return turn


@torch.no_grad()
def _is_rotary(own: Any) -> bool:
    query, key = torch.linspace(-1, 1, 80).view(2, 2, 5, 4), torch.linspace(1, -1, 40).view(2, 1, 5, 4)
    angles = torch.linspace(0, 6, 20).view(2, 5, 2).repeat(1, 1, 2)
    try:
        theirs = own(query, key, angles.cos(), angles.sin())
    except (TypeError, ValueError, RuntimeError):  # other arguments, or a kernel of another device
        return False
    ours = _instead_of(own)(query, key, angles.cos(), angles.sin())
    return all(alike(one, other) for one, other in zip(theirs, ours, strict=True))

"""RMSNorm in half as many passes over its tensors: a small model on a CPU does little else between its products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from knowtuning.training.scored import alike, replaced


class RmsNorm(torch.autograd.Function):
    """x r w with r = (mean(x^2) + eps)^-1/2 (Zhang and Sennrich 2019, equation 4), for a frozen w.

    Backward, with u = w dy: dx = r u - x r^3 mean(u x).

    Shapes: x and the result (…, d), weight (d,).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        mean = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = mean.add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        weighted = upstream * weight
        along = (weighted * x).mean(-1, keepdim=True).mul_(scale**3)
        return weighted.mul_(scale).addcmul_(x, along, value=-1), None, None


@contextmanager
def shorter_norms(model: Any) -> Iterator[None]:
    """Let frozen norms that are RMSNorm compute it by `RmsNorm` for a while, in float32. Whether one is, is tried."""
    with replaced(model, _is_rms_norm, _forward):
        yield


def _forward(module: Any) -> Any:
    own, eps = module.forward, _epsilon(module)

    def forward(x: torch.Tensor, *gates: Any, **options: Any) -> torch.Tensor:
        if gates or options or x.dtype != torch.float32:  # some take a gate, and look alike without
            return own(x, *gates, **options)
        return RmsNorm.apply(x, module.weight, eps)

    return forward


def _epsilon(module: Any) -> float | None:
    return getattr(module, "variance_epsilon", getattr(module, "eps", None))


@torch.no_grad()
def _is_rms_norm(module: Any) -> bool:
    weight = getattr(module, "weight", None) if "RMSNorm" in type(module).__name__ else None
    if weight is None or weight.requires_grad or weight.dtype != torch.float32 or _epsilon(module) is None:
        return False
    x = torch.linspace(-10, 10, 2 * len(weight), device=weight.device).view(2, -1)
    x[0] *= 1e-4  # where eps shows
    return alike(module(x), _forward(module)(x))

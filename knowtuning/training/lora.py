"""LoRA's three products as one: on a CPU the thin matrices cost far more time than arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer
from torch.nn.functional import linear


class LoraProduct(torch.autograd.Function):
    """x (W + s B A)^T, with gradients for x, A and B and none for the frozen W.

    The sum of the matrices is formed once per step, so that no product of x with the thin ones is added to the large
    result. Backward: dx = dy (W + s B A), dA = s (dy B)^T x, dB = s dy^T (x A^T).

    Shapes: x (…, d_in), weight (d_out, d_in), a (r, d_in), b (d_out, r); the result (…, d_out).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: Any, a: Any, b: Any, scale: float) -> Any:
        whole = torch.addmm(weight, b, a, alpha=scale)
        ctx.save_for_backward(x, whole, a, b)
        ctx.scale = scale
        return linear(x, whole, bias)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, whole, a, b = ctx.saved_tensors
        rows, out = x.flatten(0, -2), dy.flatten(0, -2)
        da = ctx.scale * (out @ b).T @ rows
        db = ctx.scale * out.T @ (rows @ a.T)
        return dy @ whole if ctx.needs_input_grad[0] else None, None, None, da, db, None


@contextmanager
def one_product(model: Any) -> Iterator[None]:
    """Compute adapted matrices by `LoraProduct` for a while, where the result is the same to rounding.

    That is: float32 on a CPU, one plain adapter without dropout. In bfloat16 the sum would round the adapter away, and
    on a GPU the thin products are cheap; such layers stay as they are.
    """
    changed = [module for module in model.modules() if isinstance(module, LoraLayer) and _is_simple(module)]
    for module in changed:
        module.forward = _forward(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _forward(module: Any) -> Any:
    base, own, (name,) = module.get_base_layer(), module.forward, module.active_adapters

    def forward(x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        if module.disable_adapters or module.merged or not torch.is_grad_enabled():
            return own(x, *arguments, **options)
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
        return LoraProduct.apply(x, base.weight, base.bias, a, b, module.scaling[name])

    return forward


def _is_simple(module: Any) -> bool:
    weight = module.get_base_layer().weight
    if type(module) is not Linear or len(module.active_adapters) != 1 or module.merged:
        return False
    name = module.active_adapters[0]
    thin = (module.lora_A[name].weight, module.lora_B[name].weight)
    floats = all(w.dtype == torch.float32 and w.device.type == "cpu" for w in (weight, *thin))
    undropped = isinstance(module.lora_dropout[name], torch.nn.Identity)
    return floats and undropped and not module.use_dora.get(name, False) and not module.lora_bias.get(name, False)

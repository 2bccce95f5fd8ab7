"""LoRA's three products as one: on a CPU the thin matrices cost far more time than arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer
from torch.nn.functional import linear

# names of matrices that are applied to the same tensor
SISTERS = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")


class LoraProduct(torch.autograd.Function):
    """x (W + s B A)^T for one or several adapted matrices, with gradients for x, A and B and none for the frozen W.

    The sum of the matrices is formed once per step, so that no product of x with the thin ones is added to the large
    result. Backward: dx = dy (W + s B A), summed over the matrices, dA = s (dy B)^T x, dB = s dy^T (x A^T).

    Shapes: x (…, d_in); for each matrix W (d_out, d_in), A (r, d_in), B (d_out, r) and a result (…, d_out).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scales: list, biases: list, *matrices: torch.Tensor) -> tuple:
        count = len(scales)
        weights, a, b = matrices[:count], matrices[count : 2 * count], matrices[2 * count :]
        wholes = [torch.addmm(*each, alpha=scale) for *each, scale in zip(weights, b, a, scales, strict=True)]
        ctx.save_for_backward(x, *wholes, *a, *b)
        ctx.scales = scales
        return tuple(linear(x, whole, bias) for whole, bias in zip(wholes, biases, strict=True))

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        count = len(upstream)
        rows, matrices = x.flatten(0, -2), (saved[:count], saved[count : 2 * count], saved[2 * count :])
        dx, da, db = None, [], []
        for dy, scale, whole, a, b in zip(upstream, ctx.scales, *matrices, strict=True):
            out = dy.flatten(0, -2)
            if ctx.needs_input_grad[0]:
                dx = out @ whole if dx is None else dx.addmm_(out, whole)
            da.append(_scaled((out @ b).T, rows, scale))
            db.append(_scaled(out.T, rows @ a.T, scale))
        return dx if dx is None else dx.view_as(x), None, None, *[None] * count, *da, *db


def _scaled(left: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """scale * left @ right: the product itself takes the factor."""
    return torch.addmm(left.new_empty(()), left, right, beta=0, alpha=scale)


@contextmanager
def one_product(model: Any) -> Iterator[None]:
    """Compute adapted matrices by `LoraProduct` for a while, where the result is the same to rounding.

    That is: float32 on a CPU, one plain adapter without dropout. In bfloat16 the sum would round the adapter away, and
    on a GPU the thin products are cheap; such layers stay as they are. Matrices of `SISTERS` that a module hands the
    same tensor are taken together.
    """
    changed: list[Any] = []
    for parent in model.modules():
        children = {name: m for name, m in parent.named_children() if isinstance(m, LoraLayer) and _is_simple(m)}
        for names in (*SISTERS, *((name,) for name in children)):
            group = [children.pop(name) for name in names if name in children]
            waiting: dict[int, tuple] = {}
            for module in group:
                module.forward = _forward(module, group, waiting)
            changed += group
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _forward(module: Any, group: list[Any], waiting: dict[int, tuple]) -> Any:
    """What `module` does instead: the first of a group that sees a tensor computes for its sisters, who pick it up."""
    own, together = module.forward, group if module is group[0] else [module]
    names, linears, scales = module.active_adapters, _linears(together), _scales(together)

    def forward(x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        plain = module.disable_adapters or module.merged or module.active_adapters != names
        if plain or not torch.is_grad_enabled():
            return own(x, *arguments, **options)
        seen, result = waiting.pop(id(module), (None, None))
        if seen is x:
            return result
        biases = [base.bias for base in linears[: len(scales)]]
        first, *others = LoraProduct.apply(x, scales, biases, *[each.weight for each in linears])
        waiting.update({id(sister): (x, found) for sister, found in zip(together[1:], others, strict=True)})
        return first

    return forward


def _linears(modules: list[Any]) -> list[Any]:
    """What holds all W, then all A, then all B."""
    name = modules[0].active_adapters[0]
    thin = [getattr(module, part)[name] for part in ("lora_A", "lora_B") for module in modules]
    return [*[module.get_base_layer() for module in modules], *thin]


def _scales(modules: list[Any]) -> list[float]:
    return [module.scaling[module.active_adapters[0]] for module in modules]


def _is_simple(module: Any) -> bool:
    weight = module.get_base_layer().weight
    if type(module) is not Linear or len(module.active_adapters) != 1 or module.merged:
        return False
    name = module.active_adapters[0]
    thin = (module.lora_A[name].weight, module.lora_B[name].weight)
    floats = all(w.dtype == torch.float32 and w.device.type == "cpu" for w in (weight, *thin))
    undropped = isinstance(module.lora_dropout[name], torch.nn.Identity)
    return floats and undropped and not module.use_dora.get(name, False) and not module.lora_bias.get(name, False)

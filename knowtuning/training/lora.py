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
    result. Backward: dx = dy (W + s B A), summed over the matrices, dA = s (dy B)^T x, dB = s dy^T (x A^T); what
    multiplies x is one product for all of them.

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
        count, scales = len(upstream), ctx.scales
        wholes, a, b = saved[:count], saved[count : 2 * count], saved[2 * count :]
        rows, outs = x.flatten(0, -2), [dy.flatten(0, -2) for dy in upstream]
        ranks = [len(each) for each in a]
        thin = torch.cat([scale * (out @ each) for out, each, scale in zip(outs, b, scales, strict=True)], 1)
        inner = (rows @ torch.cat(a).T).split(ranks, 1)
        db = [((scale * each).T @ out).T for out, each, scale in zip(outs, inner, scales, strict=True)]
        dx = None
        if ctx.needs_input_grad[0]:
            dx = outs[0] @ wholes[0]
            for out, whole in zip(outs[1:], wholes[1:], strict=True):
                dx.addmm_(out, whole)
            dx = dx.view_as(x)
        return dx, None, None, *[None] * count, *(thin.T @ rows).split(ranks), *db


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
    own = module.forward

    def forward(x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        if module.disable_adapters or module.merged or not torch.is_grad_enabled():
            return own(x, *arguments, **options)
        seen, result = waiting.pop(id(module), (None, None))
        if seen is x:
            return result
        together = group if module is group[0] else [module]
        first, *others = LoraProduct.apply(x, *_parts(together))
        waiting.update({id(sister): (x, found) for sister, found in zip(together[1:], others, strict=True)})
        return first

    return forward


def _parts(modules: list[Any]) -> tuple:
    """Scales, biases, then all W, all A and all B."""
    name = modules[0].active_adapters[0]
    bases = [module.get_base_layer() for module in modules]
    thin = [[getattr(module, part)[name].weight for module in modules] for part in ("lora_A", "lora_B")]
    scales = [module.scaling[name] for module in modules]
    return scales, [base.bias for base in bases], *[base.weight for base in bases], *thin[0], *thin[1]


def _is_simple(module: Any) -> bool:
    weight = module.get_base_layer().weight
    if type(module) is not Linear or len(module.active_adapters) != 1 or module.merged:
        return False
    name = module.active_adapters[0]
    thin = (module.lora_A[name].weight, module.lora_B[name].weight)
    floats = all(w.dtype == torch.float32 and w.device.type == "cpu" for w in (weight, *thin))
    undropped = isinstance(module.lora_dropout[name], torch.nn.Identity)
    return floats and undropped and not module.use_dora.get(name, False) and not module.lora_bias.get(name, False)

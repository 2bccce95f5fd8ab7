"""An adapter folded into the weights for a while: LoRA's thin matrices cost a CPU a quarter of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer


@contextmanager
def folded(model: Any) -> Iterator[None]:
    """Fold the active adapter into the weights where that is exact to rounding, and put them back bit for bit after.

    Only in float32 on a CPU: bfloat16 would round the adapter away, NF4 holds no sum. Any other model, and one whose
    adapter is switched off, stays as it is. Takes the memory of the adapted matrices a second time.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not isinstance(model, PeftModel) or not layers or not all(map(_foldable, layers)):
        yield
        return
    weights = [layer.get_base_layer().weight for layer in layers]
    kept = [weight.detach().clone() for weight in weights]
    model.merge_adapter()
    try:
        yield
    finally:
        # peft would compute every sum again to subtract it, and leave its rounding behind
        with torch.no_grad():
            for layer, weight, before in zip(layers, weights, kept, strict=True):
                weight.copy_(before)
                layer.merged_adapters.clear()


def _foldable(layer: BaseTunerLayer) -> bool:
    weight = getattr(layer.get_base_layer(), "weight", None)
    plain = type(weight) is torch.nn.Parameter and weight.dtype == torch.float32 and weight.device.type == "cpu"
    return plain and not layer.merged and not layer.disable_adapters

"""What need be computed for scored tokens only, if a model is built so: its head, and its last layer's MLP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from peft import PeftModel

PROBE = [[1, 2, 3]]  # token ids that every vocabulary has
Use = Callable[[torch.Tensor], None]


def innermost(model: Any) -> Any:
    """The causal model under an adapter, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def plain_head(model: Any) -> Any:
    """The head of an innermost model whose logits are `head(hidden states)` and nothing else; None where they are not.

    Models exist that cap or scale their logits.
    """
    stack, head = model.base_model, model.get_output_embeddings()
    if stack is model or head is None:
        return None
    with _probing(model) as ids:
        logits = model(input_ids=ids, use_cache=False).logits
        return head if alike(head(stack(input_ids=ids, use_cache=False)[0]), logits) else None


@contextmanager
def last_mlp_where_used(stack: Any) -> Iterator[Use]:
    """Let a stack of layers leave out, for a while, what its last MLP would make of tokens that are not scored.

    After the last attention no token looks at another, so the output of a token that predicts nothing that counts (a
    prompt's) need not be right. A model whose last MLP is not found, or whose outputs depend on more than that,
    computes everything as before.

    Yields:
        `use(rows)`, to be called before each forward pass: the places of the tokens that are scored, each once, all
        sequences of the batch being one line. Their outputs are the same as ever; those of the others are not.
    """
    layers = getattr(stack, "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if isinstance(layers, torch.nn.ModuleList) and len(layers) else None
    if mlp is None:
        yield lambda rows: None
        return
    own = mlp.forward
    used: list[torch.Tensor | None] = [None]

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        if used[0] is None:
            return own(hidden)
        flat, rows = hidden.flatten(0, -2), used[0].to(hidden.device)
        found = own(flat.index_select(0, rows)[None]).squeeze(0)
        return torch.zeros_like(flat).index_copy(0, rows, found).view_as(hidden)

    with mock.patch.object(mlp, "forward", forward):
        outputs = []
        with _probing(stack) as ids:
            for used[0] in (torch.tensor([1]), None):
                outputs.append(stack(input_ids=ids, use_cache=False)[0][0, 1])
        yield partial(used.__setitem__, 0) if alike(*outputs) else lambda rows: None


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def _probing(model: Any) -> Iterator[torch.Tensor]:
    """Three tokens for a model that is asked something: without gradients, and without dropout."""
    with evaluating(model), torch.no_grad():
        yield torch.tensor(PROBE, device=model.device)


@contextmanager
def replaced(model: Any, is_one: Callable[[Any], bool], forward: Callable[[Any], Any]) -> Iterator[None]:
    """Let the modules of a kind compute by `forward(module)` for a while.

    One whose forward somebody has replaced (Liger's kernels do) stays as it is.
    """
    with ExitStack() as stack:
        for module in model.modules():
            if "forward" not in vars(module) and is_one(module):
                stack.enter_context(mock.patch.object(module, "forward", forward(module)))
        yield


def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-3, rtol=1e-5 if one.dtype == torch.float32 else 1e-2)

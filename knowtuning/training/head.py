"""Log-probabilities of labelled tokens from a frozen head, with the vocabulary never scored twice nor kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.tensor import DTensor

IGNORE = -100
LOGITS = 2**24  # logits at a time: 64 MB of float32


class FrozenHeadLogProbs(torch.autograd.Function):
    """Log-softmax of hidden @ weight.T at one target per row, some rows at a time.

    As the head is frozen, the gradient of a row's log-probability is known as soon as its logits are: the target's row
    of the weights less their mean under the softmax, weight[y] - p @ weight. It is computed at once and kept in place
    of the logits (d numbers a row instead of V), so the way back is one multiplication.

    Shapes: hidden (N, d), weight (V, d), targets (N,); the result (N,) in float32.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wanted = ctx.needs_input_grad[0]
        log_probs = torch.empty(len(targets), device=hidden.device)
        gradient = torch.empty_like(hidden) if wanted else None
        for rows in torch.arange(len(targets), device=hidden.device).split(max(1, LOGITS // len(weight))):
            logits = (hidden[rows] @ weight.T).float()
            total = logits.logsumexp(-1, keepdim=True)
            log_probs[rows] = (logits.gather(-1, targets[rows, None]) - total).squeeze(-1)
            if wanted:
                probabilities = logits.sub_(total).exp_().to(weight.dtype)
                gradient[rows] = (weight[targets[rows]] - probabilities @ weight).to(gradient.dtype)
        ctx.save_for_backward(gradient)
        return log_probs

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (upstream[:, None] * gradient).to(gradient.dtype), None, None


@contextmanager
def log_prob_head(model: Any) -> Iterator[None]:
    """Let a causal model return log-probabilities instead of logits for a while.

    `model(**batch)` of a packed batch is then the log-probability of each token after the first, (T-1,), 0 where the
    label is -100. The forward of the innermost model is replaced, so that adapters and wrappers for several processes
    work as ever. A model that does more to its logits than its head does (caps, scales) is scored by its own.
    """
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = whole.__dict__.get("forward")
    own, plain = whole.forward, _is_plain(whole)

    def forward(labels: torch.Tensor, **batch: Any) -> torch.Tensor:
        targets = labels[0, 1:]
        scored = targets != IGNORE
        if plain:
            hidden = whole.base_model(**batch, use_cache=False).last_hidden_state[0, :-1][scored]
            found = FrozenHeadLogProbs.apply(hidden, _weight(whole), targets[scored])
        else:
            logits = own(**batch, use_cache=False).logits[0, :-1][scored].float()
            found = logits.log_softmax(-1).gather(-1, targets[scored, None]).squeeze(-1)
        return found.new_zeros(scored.shape).masked_scatter(scored, found)

    whole.forward = forward
    try:
        yield
    finally:
        del whole.forward
        if before is not None:
            whole.forward = before


@torch.no_grad()
def _is_plain(model: Any) -> bool:
    """Whether the logits are the head's product with the last hidden states, and nothing else."""
    head = model.get_output_embeddings()
    if head is None or head.weight.requires_grad or getattr(head, "bias", None) is not None:
        return False
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return torch.allclose(hidden @ head.weight.T, model(input_ids=ids, use_cache=False).logits, atol=1e-3, rtol=1e-2)


def _weight(model: Any) -> torch.Tensor:
    weight = model.get_output_embeddings().weight
    return weight.full_tensor() if isinstance(weight, DTensor) else weight

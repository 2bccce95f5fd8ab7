"""Log-probabilities of labelled tokens from a frozen head, with the vocabulary never scored twice nor kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch.distributed.tensor import DTensor

from knowtuning.training.scored import innermost, last_mlp_where_used, plain_head

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
        at_once = max(1, LOGITS // len(weight))
        for rows in (slice(start, start + at_once) for start in range(0, len(targets), at_once)):
            logits = (hidden[rows] @ weight.T).float()
            probabilities = logits.softmax(-1)
            # by way of the likeliest token, as a target's probability may be too small for a float
            likeliest = probabilities.amax(-1).log() - logits.amax(-1)
            log_probs[rows] = logits.gather(-1, targets[rows, None]).squeeze(-1) + likeliest
            if wanted:
                gradient[rows] = weight[targets[rows]].addmm_(probabilities.to(weight.dtype), weight, alpha=-1)
        ctx.save_for_backward(gradient)
        return log_probs

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (upstream[:, None] * gradient).to(gradient.dtype), None, None


@contextmanager
def log_prob_head(model: Any) -> Iterator[None]:
    """Let a causal model return log-probabilities instead of logits for a while.

    `model(**batch)` of a batch of `packed.pack` is then the log-probability of each labelled token, (L,), sequence by
    sequence; what several sequences have in common is scored once. The forward of the innermost model is replaced, so
    that adapters and wrappers for several processes work as ever. A model that does more to its logits than its head
    does (caps, scales) is scored by its own.
    """
    whole = innermost(model)
    own, head = whole.forward, plain_head(whole)
    frozen = head is not None and not head.weight.requires_grad and getattr(head, "bias", None) is None

    with last_mlp_where_used(whole.base_model) if frozen else nullcontext() as use:

        def forward(
            labels: torch.Tensor, before: torch.Tensor, scored: torch.Tensor, label_at: torch.Tensor, **batch: Any
        ) -> torch.Tensor:
            if frozen:
                use(scored)
                states = whole.base_model(**batch, use_cache=False).last_hidden_state.squeeze(0)
                hidden = states.index_select(0, before)
                found = FrozenHeadLogProbs.apply(hidden, _weight(head), labels[0])
            else:
                logits = own(**batch, use_cache=False).logits[0].index_select(0, before).float()
                found = logits.log_softmax(-1).gather(-1, labels[0, :, None]).squeeze(-1)
            return found.index_select(0, label_at)

        with mock.patch.object(whole, "forward", forward):
            yield


def _weight(head: Any) -> torch.Tensor:
    return head.weight.full_tensor() if isinstance(head.weight, DTensor) else head.weight

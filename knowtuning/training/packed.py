"""Batches without padding: sequences in one row, what they begin with in common once, and attention inside each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from knowtuning.training.head import log_prob_head
from knowtuning.training.lora import one_product
from knowtuning.training.rmsnorm import shorter_norms
from knowtuning.training.rotary import turned_in_place
from knowtuning.training.swiglu import swiglu_in_place
from knowtuning.training.tree import Tree

NAME = "packed"
IGNORE = -100


def pack(sequences: list[list[int]], labels: list[list[int]]) -> dict[str, torch.Tensor]:
    """One row out of several sequences, as a tree: a beginning that sequences share is there, and computed, once.

    A token's states depend on what is before it only, so those of a shared beginning are the same in all sequences,
    and its gradient is the sum of theirs (with dropout they share its draw too). A pair of answers shares its prompt
    and more; all prompts share a template. The last token of a sequence predicts nothing and is left out.

    Args:
        sequences: token ids.
        labels: for each token itself, or -100 where it is not scored. A first token never is: nothing predicts it.

    Returns:
        Of the T tokens of the row: `input_ids` and `position_ids` (1, T).
        Of the L labelled tokens, sequence by sequence: `sequence_of` (L,), and `label_at` (L,), its place among the P
        that differ in what they are or what they follow. Of those: `labels` (1, P), the ids, and `before` (P,), the
        places of the tokens that predict them; `scored` (S,) are these places, each once.
        For attention, which runs in a padded layout: `token_at` (n, longest), the token in each slot (padding has its
        sequence's last); `slot_of` (T,), the slot in which a token is computed; `again_slot` and `again_token`, the
        other slots of shared tokens and the tokens in them.

    Example:
        >>> batch = pack([[5, 6, 7, 8], [5, 6, 9, 8]], [[-100, -100, 7, 8], [-100, -100, 9, 8]])
        >>> batch["input_ids"].tolist(), batch["position_ids"].tolist()
        ([[5, 6, 7, 9]], [[0, 1, 2, 2]])
        >>> batch["labels"].tolist(), batch["before"].tolist(), batch["label_at"].tolist()
        ([[7, 9, 8, 8]], [1, 1, 2, 3], [0, 2, 1, 3])
    """
    tree = Tree([sequence[:-1] or sequence for sequence in sequences])
    row = {"input_ids": [tree.ids], "position_ids": [tree.positions]}
    row |= _scored(tree.paths, labels) | _slots(tree.paths)
    # torch itself takes eight times as long to read a list
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in row.items()}


def _scored(paths: list[list[int]], labels: list[list[int]]) -> dict[str, np.ndarray]:
    """What `pack` gives of the labelled tokens."""
    counts = [len(each) - 1 for each in labels]
    before = np.concatenate([path[:count] for path, count in zip(paths, counts, strict=True)]).astype(np.int64)
    following = np.concatenate([each[1:] for each in labels]).astype(np.int64)
    kept = following != IGNORE
    vocabulary = following.max(initial=0) + 1
    pairs, label_at = np.unique(before[kept] * vocabulary + following[kept], return_inverse=True)
    before, targets = np.divmod(pairs, vocabulary)
    return {
        "labels": targets[None],
        "before": before,
        "scored": np.unique(before),
        "label_at": label_at,
        "sequence_of": np.repeat(np.arange(len(labels)), counts)[kept],
    }


def _slots(paths: list[list[int]]) -> dict[str, np.ndarray]:
    """What `pack` gives for attention: a token is computed in the first of its slots."""
    longest = max(map(len, paths))
    slots = np.array([path + path[-1:] * (longest - len(path)) for path in paths])
    real = np.arange(longest) < np.array([[len(path)] for path in paths])
    filled = real.flatten().nonzero()[0]
    first = np.unique(slots.flatten()[filled], return_index=True)[1]
    again = np.delete(filled, first)
    return {
        "token_at": slots,
        "slot_of": filled[first],
        "again_slot": again,
        "again_token": slots.flatten()[again],
    }


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    token_at: torch.Tensor | None = None,
    slot_of: torch.Tensor | None = None,
    again_slot: torch.Tensor | None = None,
    again_token: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sequence of a packed row, by torch's own kernel.

    Only queries, keys and values are laid out with padding, never the hidden states between them. Padding stands at
    the end, where causal attention does not look back from.

    Shapes: query (1, heads, T, d), key and value (1, kv heads, T, d); the result (1, T, heads, d).
    """
    if token_at is None or slot_of is None or again_slot is None or again_token is None:
        raise ValueError("packed attention needs a batch of `pack`: leave `packed(model)` before anything else.")
    # not [0]: its way back copies the tensor into one of zeros
    rows = [each.squeeze(0) for each in (query, key, value)]
    queries, keys, values = _Padded.apply(token_at, slot_of, again_slot, again_token, *rows)
    grouped = key.shape[1] != query.shape[1]
    attended = scaled_dot_product_attention(
        queries, keys, values, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
    )
    return _Unpadded.apply(attended, slot_of)[None], None


class _Padded(torch.autograd.Function):
    """Queries, keys and values, each (heads, T, d), to (n, heads, longest, d).

    No query that counts sees padding, so padding gets no gradient, and the way back only picks. Left to itself,
    autograd would add up rows that it cannot know to be zero, one by one. A token with several slots is a query that
    counts in one of them; as key and value it gets what comes back to all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        token_at: torch.Tensor,
        slot_of: torch.Tensor,
        again_slot: torch.Tensor,
        again_token: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(slot_of, again_slot, again_token)
        return tuple(_laid_out(tensor, token_at) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slot_of, again_slot, again_token = ctx.saved_tensors
        gradients = [_picked(tensor, slot_of) for tensor in upstream]
        for gradient, tensor in zip(gradients[1:], upstream[1:], strict=True):
            gradient.index_add_(0, again_token, _picked(tensor, again_slot))
        return *[None] * 4, *[gradient.transpose(0, 1) for gradient in gradients]


def _laid_out(tensor: torch.Tensor, token_at: torch.Tensor) -> torch.Tensor:
    """(heads, T, d) to (n, heads, longest, d)."""
    rows = tensor.transpose(0, 1)
    slots = rows.flatten(1).index_select(0, token_at.flatten())
    return slots.view(*token_at.shape, *rows.shape[1:]).transpose(1, 2)


class _Unpadded(torch.autograd.Function):
    """(n, heads, longest, d) to (T, heads, d)."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, slot_of: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(slot_of)
        ctx.shape = tensor.transpose(1, 2).shape
        return _picked(tensor, slot_of)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        padded = upstream.new_zeros(ctx.shape)
        padded.flatten(0, 1).index_copy_(0, *ctx.saved_tensors, upstream)
        return padded.transpose(1, 2), None


def _picked(padded: torch.Tensor, slot_of: torch.Tensor) -> torch.Tensor:
    """(n, heads, longest, d) to (T, heads, d)."""
    return padded.transpose(1, 2).flatten(0, 1).index_select(0, slot_of)


AttentionInterface.register(NAME, packed_attention)


@contextmanager
def packed(model: Any) -> Iterator[None]:
    """Let a causal model read packed batches and answer with log-probabilities (`head.log_prob_head`) for a while."""
    before = model.config._attn_implementation
    fused = one_product(model), swiglu_in_place(model), shorter_norms(model), turned_in_place(model)
    with ExitStack() as stack:
        for each in (*fused, log_prob_head(model)):
            stack.enter_context(each)
        model.set_attn_implementation(NAME)
        try:
            yield
        finally:
            model.set_attn_implementation(before)

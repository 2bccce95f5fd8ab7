"""Batches without padding: the sequences of a batch end to end in one row, and attention that stays inside each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from knowtuning.training.head import IGNORE, log_prob_head
from knowtuning.training.lora import one_product

NAME = "packed"


def pack(sequences: list[list[int]], labels: list[list[int]]) -> dict[str, torch.Tensor]:
    """One row out of several sequences, with what a model needs to keep them apart.

    Returns:
        `input_ids`, `position_ids` (from 0 in each sequence) and `labels` of shape (1, T), T the sum of the lengths; a
        sequence's first token has the label -100, as nothing before it predicts it. `cu_seq_lens_q` and `_k` hold the
        n + 1 places where sequences begin and end, `max_length_q` and `_k` the longest length: the names under which
        transformers hands them to every attention function. For ours, `token_at` (n, longest) is the place of the token
        in each slot of a padded layout, and `slot_of` (T,) the slot of each token; padding has its row's last token.

    Example:
        >>> batch = pack([[5, 6, 7], [8, 9]], [[-100, 6, 7], [-100, 9]])
        >>> batch["position_ids"].tolist(), batch["cu_seq_lens_q"].tolist()
        ([[0, 1, 2, 0, 1]], [0, 3, 5])
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    row = {
        "input_ids": torch.tensor([[token for sequence in sequences for token in sequence]]),
        "labels": torch.tensor([[label for each in labels for label in each]]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths.tolist()])[None],
    }
    row["labels"][row["position_ids"] == 0] = IGNORE
    longest = int(lengths.max())
    row |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    starts, within = ends[:-1, None].long(), torch.arange(longest)
    row["token_at"] = starts + torch.minimum(within, lengths[:, None] - 1)
    row["slot_of"] = (within < lengths[:, None]).flatten().nonzero().squeeze(-1)
    return row


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
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sequence of a packed row, by torch's own kernel.

    Only queries, keys and values are laid out with padding, never the hidden states between them. Padding stands at
    the end, where causal attention does not look back from.

    Shapes: query (1, heads, T, d), key and value (1, kv heads, T, d); the result (1, T, heads, d).
    """
    if token_at is None or slot_of is None:
        raise ValueError("packed attention needs a batch of `pack`: leave `packed(model)` before anything else.")
    padded = (_Padded.apply(tensor[0], token_at, slot_of) for tensor in (query, key, value))
    grouped = key.shape[1] != query.shape[1]
    attended = scaled_dot_product_attention(
        *padded, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
    )
    return _Unpadded.apply(attended, slot_of)[None], None


class _Padded(torch.autograd.Function):
    """(heads, T, d) to (n, heads, longest, d).

    No query that counts sees padding, so padding gets no gradient, and the way back only picks. Left to itself,
    autograd would add up rows that it cannot know to be zero, one by one.
    """

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, token_at: torch.Tensor, slot_of: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(slot_of)
        return tensor.transpose(0, 1)[token_at].transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _picked(upstream, *ctx.saved_tensors).transpose(0, 1), None, None


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
    with one_product(model), log_prob_head(model):
        model.set_attn_implementation(NAME)
        try:
            yield
        finally:
            model.set_attn_implementation(before)

"""Log-likelihood of texts after their prompts: what texts begin with in common is computed once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from knowtuning.training.batches import batches
from knowtuning.training.folding import folded
from knowtuning.training.scored import Use, innermost, last_mlp_where_used, plain_head
from knowtuning.training.tree import Ids, Tree, common

ROOM = 192  # tokens of a row of short texts: attention grows with the square of a row
LOGITS = 2**22  # logits at a time, 16 MB of float32


@torch.no_grad()
def completion_nll(
    model: Any,
    prompts: Sequence[Ids],
    completions: Sequence[Ids],
    pad: int,
    max_tokens: int,
    tick: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """Negative log-likelihood in nats, summed over its tokens, of each completion after its prompt.

    Several texts lie in one row as a tree: what they begin with in common, such as the prompt, is there once, and every
    token sees the beginning of its own text and nothing else, at the position that it has there. The last token of a
    text is predicted and predicts nothing: it is left out. A model whose attention knows no such mask gets a row per
    text. Logits are computed where they predict a token that counts, and log-probabilities in float32, a few rows of
    the vocabulary at a time.

    Args:
        model: causal language model in eval mode, with or without an adapter.
        prompts: token ids, at least one each: the last predicts the first token of the completion.
        completions: token ids, one list per prompt.
        pad: the padding token's id.
        max_tokens: rows times longest row of a forward pass; a text that is longer is a pass of its own.
        tick: called after each pass with the number of completions done.
    """
    texts = [prompt + completion[:-1] for prompt, completion in zip(prompts, completions, strict=True)]
    nll, done = torch.zeros(len(texts)), 0
    with folded(model):
        stack, head = _split(model)
        in_trees = _obeys_masks(stack, max(map(len, texts)))
        rows, lengths = _rows(texts, max_tokens, in_trees)
        with last_mlp_where_used(stack) as use:
            for batch in batches(lengths, max_tokens):
                layout = _layout([rows[number] for number in batch], texts, completions, pad)
                nll.index_add_(0, layout.text, _token_nll(stack, head, layout, in_trees, use).cpu())
                done += sum(len(rows[number]) for number in batch)
                tick(done)
    return nll.tolist()


def _split(model: Any) -> tuple[Any, Any]:
    """The layers of a model, and the head that makes logits of their output, if that is all that the model does.

    A model that does more, such as to cap or scale its logits, is taken whole: so are its logits, for every token.
    """
    whole = innermost(model)
    head = plain_head(whole)
    return (model, torch.nn.Identity()) if head is None else (whole.base_model, head)


def _obeys_masks(stack: Any, reach: int) -> bool:
    """Whether attention goes by a given mask (rows, 1, tokens, tokens) and given positions, over texts of `reach`.

    Kernels that make their own mask, recurrent layers and windows narrower than the texts do not.
    """
    config = stack.config.get_text_config()
    return (
        getattr(stack, "_supports_attention_backend", False)
        and not stack._is_stateful
        and config._attn_implementation in ("sdpa", "eager")
        and set(getattr(config, "layer_types", None) or ()) <= {"full_attention", "sliding_attention"}
        and reach <= (getattr(config, "sliding_window", None) or reach)
        and "position_ids" in inspect.signature(stack.forward).parameters
    )


def _rows(texts: Sequence[Ids], max_tokens: int, in_trees: bool) -> tuple[list[list[int]], list[int]]:
    """Places of the texts that lie in each row, and the lengths of the rows.

    In the order of a dictionary, texts that begin alike are neighbours.
    """
    rows: list[list[int]] = []
    lengths: list[int] = []
    last: Ids = []
    for place in sorted(range(len(texts)), key=texts.__getitem__):
        text = texts[place]
        new = len(text) - common(text, last)
        if in_trees and rows and lengths[-1] + new <= min(max_tokens, max(ROOM, 2 * len(text))):
            rows[-1].append(place)
            lengths[-1] += new
        else:
            rows.append([place])
            lengths.append(len(text))
        last = text
    return rows, lengths


@dataclass(frozen=True)
class _Layout:
    """Rows as tensors.

    Of shape (rows, longest): ids, positions, ends (see `Tree`; padding ends with the row). One entry per token that
    counts: target, the token; before, the place of the one that predicts it, all rows being one line; text, its place.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    ends: torch.Tensor
    target: torch.Tensor
    before: torch.Tensor
    text: torch.Tensor


def _layout(rows: list[list[int]], texts: Sequence[Ids], completions: Sequence[Ids], pad: int) -> _Layout:
    """The rows of a forward pass."""
    trees = [Tree([texts[place] for place in row]) for row in rows]
    width = max(len(tree.ids) for tree in trees)
    filled = [
        (tree.ids + [pad] * (n := width - len(tree.ids)), tree.positions + [0] * n, tree.ends + [width] * n)
        for tree in trees
    ]
    target, before, of = [], [], []
    for number, (row, tree) in enumerate(zip(rows, trees, strict=True)):
        for place, path in zip(row, tree.paths, strict=True):
            size = len(completions[place])
            target += completions[place]
            before += [number * width + node for node in path[len(path) - size :]]
            of += [place] * size
    # torch takes eight times as long to read a list
    return _Layout(*(torch.from_numpy(np.array(each)) for each in (*zip(*filled, strict=True), target, before, of)))


def _token_nll(stack: Any, head: Any, layout: _Layout, in_trees: bool, use: Use) -> torch.Tensor:
    """Negative log-probability of every token that counts."""
    config = stack.config.get_text_config()
    ids, positions, ends = (tensor.to(stack.device) for tensor in (layout.ids, layout.positions, layout.ends))
    if in_trees:
        options = {"attention_mask": _mask(ends, config._attn_implementation, stack.dtype), "position_ids": positions}
    else:
        options = {"attention_mask": (torch.arange(ids.shape[1], device=ids.device) < ends[:, :1]).long()}
    # where texts part, and before that, one token predicts those of several texts
    nodes, node = layout.before.unique(return_inverse=True)
    use(nodes)
    hidden = stack(input_ids=ids, use_cache=False, **options)[0].flatten(0, 1)
    nodes, node, target = (tensor.to(hidden.device) for tensor in (nodes, node, layout.target))
    nll = torch.empty(len(target), device=hidden.device)
    step = max(1, LOGITS // config.vocab_size)
    for start in range(0, len(nodes), step):
        log_probs = head(hidden[nodes[start : start + step]]).float().log_softmax(-1)
        here = ((node >= start) & (node < start + step)).nonzero().squeeze(-1)
        nll[here] = -log_probs[node[here] - start, target[here]]
    return nll


def _mask(ends: torch.Tensor, attention: str, dtype: torch.dtype) -> torch.Tensor:
    """What each token sees, (rows, 1, tokens, tokens): of the tokens up to it, those that it lies below."""
    seen = (torch.arange(ends.shape[1], device=ends.device)[:, None] < ends[:, None, :]).tril()[:, None]
    if attention == "sdpa":
        return seen
    return torch.zeros(seen.shape, dtype=dtype, device=ends.device).masked_fill(~seen, torch.finfo(dtype).min)

"""Answers of a model to questions, greedily or sampled as the scripts do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from knowtuning.progress import progress
from knowtuning.recipe import Recipe
from knowtuning.training.batches import batches
from knowtuning.training.models import load_adapter, load_base
from knowtuning.training.prompts import encode_prompts

DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False, "temperature": None, "top_p": None, "top_k": None},
    "sampled": {"do_sample": True, "temperature": 0.95, "top_p": 0.7, "top_k": 50},
    # what the baselines sample with: responses from the whole distribution, and answers whose agreement is confidence
    "pure": {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0},
    "nucleus": {"do_sample": True, "temperature": 1.0, "top_p": 0.9, "top_k": 0},
}


def load_policy(recipe: Recipe, base: str | Path, adapter: str | Path | None = None) -> Any:
    """The base, under an adapter if one is named: what `generate` takes as its model."""
    model = load_base(base, recipe.quantisation, recipe.dtype)
    return load_adapter(model, adapter) if adapter else model


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    questions: list[str],
    decoding: str | dict[str, Any] = "greedy",
    max_new_tokens: int = 160,
    batch_size: int = 64,
    seed: int = 0,
    max_tokens: int = 65536,
) -> list[dict]:
    """Answer each question in the training prompt.

    Args:
        decoding: "greedy"; "sampled" with T 0.95, top_p 0.7, top_k 50 as the test scripts have it; "pure" (T 1);
            "nucleus" (T 1, top_p 0.9); or such settings of `transformers` themselves.
        batch_size: questions per batch, sorted by length and padded on the left; a batch ends when all its answers do.
        max_tokens: tokens per batch, padding and `max_new_tokens` included: so many keys and values are kept at once
            (half a megabyte each for Llama-2 7B in bfloat16). Long prompts make smaller batches.

    Returns:
        One `{"answer", "tokens", "finished"}` per question, in order; `finished` is False where the answer ran into
        `max_new_tokens` without an end token. The same call gives the same answers; other batches give other samples.
    """
    if isinstance(decoding, str) and decoding not in DECODINGS:
        raise ValueError(f"decoding is {decoding!r}; use one of {', '.join(DECODINGS)}.")
    prompts = encode_prompts(tokenizer, questions)
    name, options = (decoding, DECODINGS[decoding]) if isinstance(decoding, str) else ("own decoding", decoding)
    options = options | {"max_new_tokens": max_new_tokens, "eos_token_id": tokenizer.eos_token_id}
    with progress(f"answers ({name})", len(prompts)) as tick:
        torch.manual_seed(seed)
        rows = [[] for _ in prompts]
        for chosen in batches([len(prompt) + max_new_tokens for prompt in prompts], max_tokens, batch_size):
            continued = _continue(model, [prompts[i] for i in chosen], tokenizer.pad_token_id, options)
            for i, row in zip(chosen, continued, strict=True):
                rows[i] = row
            tick(sum(map(bool, rows)))
    return [_answer(tokenizer, row) for row in rows]


def _continue(model: Any, prompts: list[list[int]], pad: int, options: dict[str, Any]) -> list[list[int]]:
    """What the model says after each prompt, with padding after the end token, as one batch."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    output = model.generate(input_ids=ids, attention_mask=mask, pad_token_id=pad, **options)
    return output[:, width:].tolist()


def _answer(tokenizer: Any, row: list[int]) -> dict:
    """Text and length of one answer: its tokens up to the end token."""
    finished = tokenizer.eos_token_id in row
    row = row[: row.index(tokenizer.eos_token_id)] if finished else row
    return {"answer": tokenizer.decode(row, skip_special_tokens=True).strip(), "tokens": len(row), "finished": finished}

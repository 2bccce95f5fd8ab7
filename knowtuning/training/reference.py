"""Reference log-probabilities for DPO: each answer's, computed once and kept on disk by what it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from knowtuning.files import read_jsonl
from knowtuning.progress import progress
from knowtuning.training.folding import folded
from knowtuning.training.packed import IGNORE, pack, packed
from knowtuning.training.scored import evaluating

SAMPLED = 4096  # values of a frozen matrix that stand for all of them in its fingerprint


def answer_log_probs(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probability of the labelled tokens of each sequence of a packed row, and their number; both (n,)."""
    batch = dict(batch)
    sequence_of = batch.pop("sequence_of")
    log_probs = model(**batch)
    sequences = len(batch["token_at"])
    sums = log_probs.new_zeros(sequences).index_add(0, sequence_of, log_probs)
    return sums, sequence_of.bincount(minlength=sequences)


@torch.no_grad()
def reference_log_probs(
    model: Any, examples: list[tuple[list[int], list[int]]], store: Path, budget: int = 8192, autocast: Any = None
) -> list[float]:
    """Log-probability of each answer after its prompt, in nats summed over its tokens, from the store where it is.

    Args:
        model: the reference.
        examples: (prompt ids, answer ids).
        store: folder with one file per model, named by `fingerprint`; every line holds one answer's key and value, so
            that another run, another arm or another epoch from the same reference computes nothing again.
        budget: tokens of one forward pass at most (a longer example goes alone).
    """
    path = store / f"{fingerprint(model)}.jsonl"
    known = {row["key"]: row["log_prob"] for row in read_jsonl(path)} if path.exists() else {}
    keys = [_key(prompt, answer) for prompt, answer in examples]
    missing = {key: example for key, example in zip(keys, examples, strict=True) if key not in known}
    if missing:
        store.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            for key, value in _computed(model, missing, budget, autocast or nullcontext()):
                known[key] = value
                file.write(json.dumps({"key": key, "log_prob": value}) + "\n")
    return [known[key] for key in keys]


def fingerprint(model: Any) -> str:
    """A name for what a model computes: all of its adapter's weights, and a sample of each frozen matrix."""
    digest = hashlib.sha256(str(getattr(model, "active_adapters", "")).encode())
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        values = values if "lora_" in name else values[:: max(1, len(values) // SAMPLED)]
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(values.contiguous().view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def _computed(model: Any, missing: dict, budget: int, autocast: Any) -> Iterator[tuple[str, float]]:
    told = progress("reference log-probabilities", len(missing))
    with evaluating(model), folded(model), packed(model), autocast, told as tick:
        done = 0
        for keys in _parts(missing, budget):
            prompts, answers = zip(*(missing[key] for key in keys), strict=True)
            rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
            labels = [[IGNORE] * len(p) + a for p, a in zip(prompts, answers, strict=True)]
            batch = {name: tensor.to(model.device) for name, tensor in pack(rows, labels).items()}
            yield from zip(keys, answer_log_probs(model, batch)[0].float().tolist(), strict=True)
            tick(done := done + len(keys))


def _parts(missing: dict, budget: int) -> Iterator[list[str]]:
    """Keys of as many examples at once as the budget of tokens holds: those of one prompt, then of like length."""
    part, tokens = [], 0
    lengths = {key: len(prompt) + len(answer) for key, (prompt, answer) in missing.items()}
    longest: dict[tuple[int, ...], int] = {}
    for key, (prompt, _) in missing.items():
        longest[tuple(prompt)] = max(lengths[key], longest.get(tuple(prompt), 0))
    for key in sorted(missing, key=lambda key: (longest[tuple(missing[key][0])], missing[key][0])):
        length = lengths[key]
        if part and tokens + length > budget:
            yield part
            part, tokens = [], 0
        part, tokens = [*part, key], tokens + length
    if part:
        yield part


def _key(prompt: list[int], answer: list[int]) -> str:
    return hashlib.sha256(json.dumps([prompt, answer]).encode()).hexdigest()

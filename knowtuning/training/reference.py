"""Reference log-probabilities for DPO: each answer's, computed once and kept on disk by what it depends on."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from knowtuning.files import read_jsonl
from knowtuning.progress import progress
from knowtuning.training.packed import completion_log_probs

SAMPLED = 4096  # values of a frozen matrix that stand for all of them in its fingerprint


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
        autocast: context in which the policy will be trained, so that both compute in the same precision.
    """
    path = store / f"{fingerprint(model)}.jsonl"
    known = {row["key"]: row["log_prob"] for row in read_jsonl(path)} if path.exists() else {}
    keys = [_key(prompt, answer) for prompt, answer in examples]
    missing = {key: example for key, example in zip(keys, examples, strict=True) if key not in known}
    if missing:
        store.mkdir(parents=True, exist_ok=True)
        names, (prompts, answers) = list(missing), zip(*missing.values(), strict=True)
        told = progress("reference log-probabilities", len(missing))
        with open(path, "a", encoding="utf-8") as file, autocast or nullcontext(), told as tick:
            log_probs = completion_log_probs(model, prompts, answers, budget)
            for done, (place, value) in enumerate(log_probs, start=1):
                known[names[place]] = value
                file.write(json.dumps({"key": names[place], "log_prob": value}) + "\n")
                tick(done)
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


def _key(prompt: list[int], answer: list[int]) -> str:
    return hashlib.sha256(json.dumps([prompt, answer]).encode()).hexdigest()

"""How likely a model finds an answer, token by token, by the engine that trains it."""

from __future__ import annotations

from typing import Any

import torch

from knowtuning.training.packed import evaluating, label_log_probs, pack_answers
from knowtuning.training.prompts import encode


@torch.no_grad()
def token_log_probs(model: Any, tokenizer: Any, question: str, answer: str) -> list[tuple[str, float]]:
    """Each token of the answer and its end token, with its log-probability in nats after all that is before it.

    Those of a policy less those of its reference are the log-ratios of which DPO makes its margin (Rafailov et al.
    2023, equation 7).
    """
    prompt, completion = encode(tokenizer, question, answer, end=True)
    with evaluating(model):
        log_probs, _ = label_log_probs(model, pack_answers([prompt], [completion]))
    return [(tokenizer.decode([token]), value) for token, value in zip(completion, log_probs.tolist(), strict=True)]

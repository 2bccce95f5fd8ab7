"""How likely a model finds an answer, token by token: for looking. `likelihood` is for scoring many."""

from __future__ import annotations

from typing import Any

import torch

from knowtuning.training.prompts import encode
from knowtuning.training.scored import evaluating


@torch.no_grad()
def token_log_probs(model: Any, tokenizer: Any, question: str, answer: str) -> list[tuple[str, float]]:
    """Each token of the answer and its end token, with its log-probability in nats after all that is before it.

    Those of a policy less those of its reference are the log-ratios of which DPO makes its margin (Rafailov et al.
    2023, equation 7).
    """
    prompt, completion = encode(tokenizer, question, answer, end=True)
    ids = torch.tensor([prompt + completion], device=model.device)
    with evaluating(model):
        logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
    log_probs = logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])[:, 0]
    return [(tokenizer.decode([token]), value) for token, value in zip(completion, log_probs.tolist(), strict=True)]

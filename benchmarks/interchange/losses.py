"""What LLaMA-Factory's examples and losses have to be, by our own code."""

from __future__ import annotations

from typing import Any

import torch

from knowtuning.training.dpo import dpo_examples, dpo_loss
from knowtuning.training.sft import sft_examples

IGNORE = -100
TAIL = "\n\n"  # what its template "alpaca" puts, and trains on, after the end token


def our_examples(rows: list[dict], tokenizer: Any, max_length: int) -> list[dict]:
    """Our token ids under LLaMA-Factory's names: `input_ids` and `labels`, for pairs with `chosen_` or `rejected_`.

    Args:
        rows: as `read_alpaca` or `read_ranking` return them.
    """
    if "answer" in rows[0]:
        return sft_examples(tokenizer, rows, max_length)[0]
    examples = []
    for pair in dpo_examples(tokenizer, rows, max_length)[0]:
        example = {}
        for side in ("chosen", "rejected"):
            prompt, answer = pair["prompt_ids"], pair[f"{side}_ids"]
            example |= {f"{side}_input_ids": prompt + answer, f"{side}_labels": [IGNORE] * len(prompt) + answer}
        examples.append(example)
    return examples


def different_rows(theirs: list[dict], ours: list[dict], tail: list[int], max_length: int) -> list[int]:
    """Numbers (from 0) of the rows whose ids or labels are not ours followed by `tail`.

    Rows that reach `max_length` are passed over, as the two sides cut in different ways.
    """
    return [
        number
        for number, (their, our) in enumerate(zip(theirs, ours, strict=True))
        if all(len(ids) + len(tail) <= max_length for ids in our.values())
        and any(their[column] != ids + tail for column, ids in our.items())
    ]


def sft_loss(model: Any, examples: list[dict]) -> float:
    """Mean over the answers of the mean loss of an answer's tokens, in nats."""
    answers = [log_prob(model, example["input_ids"], example["labels"]) for example in examples]
    return -sum(total / tokens for total, tokens in answers) / len(answers)


def preference_loss(policy: Any, reference: Any, examples: list[dict], beta: float, ftx: float) -> float:
    """Mean over the pairs of the DPO loss plus `ftx` times the mean loss of the preferred answer's tokens."""
    total = 0.0
    for example in examples:
        ratio = {}
        for side in ("chosen", "rejected"):
            sequence = example[f"{side}_input_ids"], example[f"{side}_labels"]
            under_policy, tokens = log_prob(policy, *sequence)
            ratio[side] = under_policy - log_prob(reference, *sequence)[0]
            if side == "chosen":
                total -= ftx * under_policy / tokens
        total += dpo_loss(torch.tensor(ratio["chosen"] - ratio["rejected"]), beta).item()
    return total / len(examples)


@torch.no_grad()
def log_prob(model: Any, input_ids: list[int], labels: list[int]) -> tuple[float, int]:
    """Summed log-probability of the tokens that carry a label, and their number."""
    targets = torch.tensor(labels[1:])
    predicted = model(input_ids=torch.tensor([input_ids])).logits[0, :-1].float().log_softmax(-1)
    read = targets != IGNORE
    return float(predicted[read].gather(-1, targets[read, None]).sum()), int(read.sum())

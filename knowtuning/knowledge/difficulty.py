"""Stage I, second step: which facts does the SFT model find hard? (paper, section 3.1: perplexity under pi_sft)"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from knowtuning.progress import progress

SCOPES = ("answer", "dataset")
SELECTIONS = ("hardest", "easiest", "random")


def perplexity(nll: float, tokens: int) -> float:
    """exp of the mean negative log-likelihood per token: 1 is certainty, the vocabulary's size is a blind guess."""
    return math.exp(nll / tokens)


def fact_nll(
    model: Any, tokenizer: Any, items: Sequence[tuple[str, str]], max_tokens: int = 8192
) -> list[tuple[float, int]]:
    """Negative log-likelihood of each fact's tokens, conditioned on the question in the training prompt.

    Args:
        model: causal language model in eval mode.
        items: pairs (question, fact); an empty question scores the fact alone, after the start token.
        max_tokens: size of a forward pass with its padding. Neither it nor the order of the items nor their company
            changes a perplexity by more than 1e-4 in float32, though facts of one question share its computation.

    Returns:
        One (nll in nats summed over the fact's tokens, number of those tokens) per item, in the order given.
    """
    from knowtuning.training.packed import completion_log_probs  # here, as who only selects needs no PyTorch
    from knowtuning.training.prompts import encode_prompts

    if not items:
        return []
    # one call for all: a tokenizer asked text by text takes as long as the model
    questions = list(dict(items))
    asked = dict(zip(questions, encode_prompts(tokenizer, questions), strict=True))
    prompts = [asked[question] for question, _ in items]
    facts = tokenizer([fact for _, fact in items], add_special_tokens=False)["input_ids"]
    for (_, fact), prompt, ids in zip(items, prompts, facts, strict=True):
        if not ids:
            raise ValueError(f"fact {fact!r} has no tokens, and so no perplexity: leave it out.")
        if not prompt:
            raise ValueError("the tokenizer has no start token: score facts after their questions, not on their own.")
    log_probs = {}
    with progress("perplexity of facts", len(items)) as tick:
        for place, log_prob in completion_log_probs(model, prompts, facts, max_tokens):
            log_probs[place] = log_prob
            tick(len(log_probs))
    return [(-log_probs[place], len(ids)) for place, ids in enumerate(facts)]


def score_facts(
    model: Any,
    tokenizer: Any,
    facts: list[dict],
    questions: dict[str, str],
    max_tokens: int = 8192,
    known: Mapping[tuple[str, int, str], tuple[float, int]] | None = None,
) -> list[dict]:
    """Perplexity of every fact under `model`.

    Args:
        facts: rows `{"id", "facts"}`.
        questions: the question that the facts of each id are scored after; "" to score them on their own.
        max_tokens: see `fact_nll`.
        known: (nll, tokens) of facts that were scored before, by (id, index, fact): they are not scored again.

    Returns:
        One row `{"id", "index", "fact", "nll", "tokens", "perplexity"}` per fact, in the order given.
    """
    scores = dict(known or {})
    places = [(row["id"], index, fact) for row in facts for index, fact in enumerate(row["facts"])]
    new = [place for place in places if place not in scores]
    items = [(questions[name], fact) for name, _, fact in new]
    scores.update(zip(new, fact_nll(model, tokenizer, items, max_tokens), strict=True))
    rows = []
    for name, index, fact in places:
        nll, tokens = scores[name, index, fact]
        numbers = {"nll": nll, "tokens": tokens, "perplexity": perplexity(nll, tokens)}
        rows.append({"id": name, "index": index, "fact": fact, **numbers})
    return rows


def select_difficult(
    rows: list[dict], alpha: float = 0.5, scope: str = "answer", select: str = "hardest", seed: int = 0
) -> list[dict]:
    """Mark the ceil(alpha * n) hardest facts as difficult, in each answer or over the dataset.

    Args:
        rows: `{"id", "index", "perplexity", …}`; equal perplexities keep the answer's order.
        scope: "answer" counts n in each answer (the paper), "dataset" over all facts.
        select: "hardest" is the paper; "easiest" and "random" are the controls that it lacks.

    Example:
        >>> rows = [{"id": "a", "index": i, "perplexity": p} for i, p in enumerate([3.0, 9.0, 1.0])]
        >>> [row["difficult"] for row in select_difficult(rows)]
        [True, True, False]
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it is a share of the facts: give a number from 0 to 1.")
    if scope not in SCOPES or select not in SELECTIONS:
        raise ValueError(f"scope={scope!r}, select={select!r}: use one of {SCOPES} and one of {SELECTIONS}.")
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["id"] if scope == "answer" else "all", []).append(row)
    chosen = set()
    for name, group in groups.items():
        if select == "random":
            ranked = random.Random(f"{seed} {name}").sample(group, len(group))
        else:
            ranked = sorted(group, key=lambda row: row["perplexity"], reverse=select == "hardest")
        # 1e-9 keeps ceil(0.1 * 30) at 3, where floating point has 3.0000000000000004
        chosen.update((row["id"], row["index"]) for row in ranked[: math.ceil(alpha * len(group) - 1e-9)])
    return [{**row, "difficult": (row["id"], row["index"]) in chosen} for row in rows]

"""Log-probabilities of texts: the one engine behind SFT, DPO, its reference, perplexity and the view of tokens.

Two ideas carry its speed. No padding: texts lie in one row, positions start anew with each, and transformers' own masks
keep them apart. And logits only where a label is. A model that reads texts in one row otherwise than alone gets them
in padded batches.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from knowtuning.files import DataError
from knowtuning.training.batches import batches

IGNORE = -100
# tokens of a packed row, as attention costs the square of a row; a longer text is a row of its own
ROW, ROW_ON_GPU = 512, 2048
LENGTHS = (48, 20, 7)  # tokens of the texts that a model is tried with
# how far log-probabilities may be apart, as a share of their spread: rounding is far below, other texts far above
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}

Batch = dict[str, torch.Tensor]


def pack(sequences: Sequence[list[int]], labels: Sequence[list[int]]) -> Batch:
    """Texts in one line, whichever way the model will read them.

    Args:
        sequences: token ids of n texts.
        labels: for each token itself, or -100 where it is not scored. A first token never is: nothing predicts it.

    Returns:
        Of T tokens `input_ids` and `labels`, both (1, T); `lengths` (n,), the tokens of each text.

    Example:
        >>> batch = pack([[5, 6, 7], [8, 9]], [[-100, 6, 7], [8, 9]])
        >>> batch["input_ids"].tolist(), batch["labels"].tolist(), batch["lengths"].tolist()
        ([[5, 6, 7, 8, 9]], [[-100, 6, 7, -100, 9]], [3, 2])
    """
    scored = [label for text in labels for label in (IGNORE, *text[1:])]
    return {
        "input_ids": torch.tensor([[token for text in sequences for token in text]]),
        "labels": torch.tensor([scored]),
        "lengths": torch.tensor([len(text) for text in sequences]),
    }


def pack_answers(prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Batch:
    """`pack` of answers after their prompts: the answers' tokens are labels."""
    pairs = list(zip(prompts, answers, strict=True))
    return pack([prompt + answer for prompt, answer in pairs], [[IGNORE] * len(p) + answer for p, answer in pairs])


def label_log_probs(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each of the L labelled tokens of a batch of n texts, text by text.

    Returns:
        Log-probabilities in nats (L,), in float32 and with gradients; their number in each text (n,).
    """
    whole, lengths = innermost(model), batch["lengths"].tolist()
    ids, labels = (batch[name].to(whole.device)[0].split(lengths) for name in ("input_ids", "labels"))
    if getattr(whole, "reads_packed_rows", False):
        rows = _rows(lengths, ROW if whole.device.type == "cpu" else ROW_ON_GPU)
        passes = [_packed(ids[texts], labels[texts]) for texts in rows]
    else:
        passes = [_padded(ids, labels)]
    counts = torch.stack([(label != IGNORE).sum() for label in labels])
    return torch.cat([_log_probs(model, *one_pass) for one_pass in passes]), counts


def answer_log_probs(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probability of the labelled tokens of each text, and their number; both (n,)."""
    values, counts = label_log_probs(model, batch)
    text_of = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    return values.new_zeros(len(counts)).index_add(0, text_of, values), counts


@torch.no_grad()
def completion_log_probs(
    model: Any, prompts: Sequence[list[int]], completions: Sequence[list[int]], max_tokens: int
) -> Iterator[tuple[int, float]]:
    """Log-probability in nats, summed over its tokens, of each completion after its prompt.

    Args:
        prompts: token ids, at least one each: the last predicts the first token of the completion.
        max_tokens: size of a pass with padding; it changes nothing but memory and time.

    Yields:
        (place of the completion, log-probability), pass by pass, the short ones first.
    """
    lengths = [len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True)]
    with packed(model), evaluating(model):
        for places in batches(lengths, max_tokens):
            batch = pack_answers([prompts[i] for i in places], [completions[i] for i in places])
            yield from zip(places, answer_log_probs(model, batch)[0].tolist(), strict=True)


def _rows(lengths: list[int], most: int) -> Iterator[slice]:
    """Neighbouring texts that share a row of at most that many tokens."""
    start, tokens = 0, 0
    for place, length in enumerate(lengths):
        if place > start and tokens + length > most:
            yield slice(start, place)
            start, tokens = place, 0
        tokens += length
    yield slice(start, len(lengths))


def _packed(ids: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> tuple[Batch, torch.Tensor]:
    """Texts in one row: where positions start anew and no mask is given, transformers keeps what is before unseen."""
    positions = torch.cat([torch.arange(len(text), device=text.device) for text in ids])
    return {"input_ids": torch.cat(ids)[None], "position_ids": positions[None]}, torch.cat(labels)[None]


def _padded(ids: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> tuple[Batch, torch.Tensor]:
    """Texts in rows of their own, padded at the end with a token that the mask hides."""
    mask = pad_sequence([torch.ones_like(text) for text in ids], batch_first=True)
    inputs = {"input_ids": pad_sequence(list(ids), batch_first=True), "attention_mask": mask}
    return inputs, pad_sequence(list(labels), batch_first=True, padding_value=IGNORE)


def _log_probs(model: Any, inputs: Batch, labels: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the labels (rows, T) of one pass, row by row; logits of the columns with a label only."""
    columns = (labels[:, 1:] != IGNORE).any(0).nonzero().squeeze(-1)
    known = inspect.signature(innermost(model).forward).parameters
    options = {name: value for name, value in (("logits_to_keep", columns), ("use_cache", False)) if name in known}
    logits = model(**inputs, **options).logits
    logits = logits if "logits_to_keep" in known else logits[:, columns]
    targets = labels[:, columns + 1]
    losses = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return -losses.view_as(targets)[targets != IGNORE]


@contextmanager
def packed(model: Any) -> Iterator[None]:
    """Let a model read packed rows for a while, if `layout` finds that it can; says once where it cannot."""
    whole = innermost(model)
    if hasattr(whole, "reads_packed_rows"):
        yield
        return
    whole.reads_packed_rows = layout(model) == "packed"
    if not whole.reads_packed_rows:
        text = f"{type(whole).__name__} reads texts in one row otherwise than alone: it is given padded batches."
        warnings.warn(text, stacklevel=3)
    try:
        yield
    finally:
        del whole.reads_packed_rows


@torch.no_grad()
def layout(model: Any) -> str:
    """How several texts can be given to a model so that it reads each as if alone: "packed" in one row, or "padded".

    A few texts of random tokens are scored in both ways and alone.

    Raises:
        DataError: the model cannot be trained on texts: it is not causal, its numbers are not finite, or padding
            changes them.
    """
    whole, name = innermost(model), type(innermost(model)).__name__
    chance = torch.Generator().manual_seed(0)
    texts = [torch.randint(3, whole.config.get_text_config().vocab_size, (n,), generator=chance) for n in LENGTHS]
    texts = [text.to(whole.device) for text in texts]
    texts[-1] = texts[0][: len(texts[-1])]  # which is read alike by a model that does not look ahead

    def score(lay_out: Callable, *groups: list[torch.Tensor]) -> torch.Tensor:
        labels = [[torch.cat([text[:1] * 0 + IGNORE, text[1:]]) for text in group] for group in groups]
        passes = [_log_probs(whole, *lay_out(*pair)) for pair in zip(groups, labels, strict=True)]
        return torch.cat(passes).cpu()

    # in the model's own precision, also where a trainer will compute in another: TOLERANCE is of the former
    with evaluating(model), torch.autocast(whole.device.type, enabled=False):
        alone = score(_padded, *[[text] for text in texts])
        if not alone.isfinite().all():
            raise DataError(f"{name} gives log-probabilities that are not finite: use another base or dtype.")

        def agree(values: torch.Tensor, others: torch.Tensor) -> bool:
            return bool((values - others).abs().max() <= TOLERANCE[whole.dtype] * alone.std())

        beginning = len(texts[-1]) - 1
        if not agree(alone[:beginning], alone[-beginning:]):
            raise DataError(f"{name} looks ahead at tokens that it is to predict: use a causal language model as base.")
        if "position_ids" in inspect.signature(whole.forward).parameters and agree(score(_packed, texts), alone):
            return "packed"
        if agree(score(_padded, texts), alone):
            return "padded"
    raise DataError(f"{name} reads a text beside others otherwise than alone, even padded: use another base.")


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def innermost(model: Any) -> Any:
    """The causal model under an adapter and under what processes wrap it in."""
    model = getattr(model, "module", model)
    return model.get_base_model() if isinstance(model, PeftModel) else model

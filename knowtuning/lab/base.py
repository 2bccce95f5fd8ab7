"""The base: a Llama trained from scratch on the corpus, and what it knows afterwards."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from knowtuning.lab.corpus import documents, pack, train_tokenizer
from knowtuning.lab.world import World
from knowtuning.recipe import LabSettings

PROBED = 24  # entities whose facts are asked for while training
DECAY = 0.25  # share of the steps in which the learning rate falls
IGNORE = -100  # the label that cross_entropy leaves out


def shape(settings: LabSettings) -> dict[str, int | bool]:
    """The base's sizes as `LlamaConfig` calls them."""
    return {
        "vocab_size": settings.vocabulary,
        "hidden_size": settings.hidden,
        "intermediate_size": settings.intermediate,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "max_position_embeddings": settings.context,
        "tie_word_embeddings": True,
    }


def build_model(settings: LabSettings, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A Llama with random weights (seeded by `settings.base_seed`) and tied embeddings.

    Embeddings start with rows of length about 1. At the usual 0.02 per entry one name hardly differs from another, and
    the model takes several times as long to begin remembering facts by name.
    """
    torch.manual_seed(settings.base_seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            **shape(settings) | {"vocab_size": len(tokenizer)},
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=settings.hidden**-0.5)
    return model


def pretrain(
    settings: LabSettings, out_dir: Path, progress: Callable[[int, int, float], None] | None = None
) -> list[dict]:
    """Train tokenizer and base on the corpus in one pass and save both to `out_dir`.

    Returns one row per step: step, tokens (seen so far, padding left out), loss (nats per token), seconds (since the
    first step); every twentieth of the way also recall, the share of the facts of the best-told entities that it knows.
    `progress(step, steps, loss)` is called after each step. Loads with `AutoModelForCausalLM` and `AutoTokenizer`.
    float32 throughout: autocast to bfloat16 is slower on processors that only emulate it.
    """
    world = World.load(settings)
    tokenizer = train_tokenizer(world)
    windows = pack(documents(world), tokenizer, settings.window)
    random.Random(f"windows {settings.base_seed}").shuffle(windows)
    model = build_model(settings, tokenizer)
    often = sorted(world.entities, key=world.exposures.get, reverse=True)[:PROBED]

    def recall() -> float:
        rows = knowledge(model, tokenizer, world, often)
        return sum(row["known"] for row in rows) / len(rows)

    rows = _train(model, windows, settings, tokenizer.pad_token_id, recall, progress)
    model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)
    return rows


def _train(
    model: LlamaForCausalLM,
    windows: list[list[int]],
    settings: LabSettings,
    pad: int,
    recall: Callable[[], float],
    progress: Callable[[int, int, float], None] | None,
) -> list[dict]:
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=decay, fused=True)
    steps = math.ceil(len(windows) / settings.batch)
    probes = {math.ceil(steps * share / 20) for share in range(1, 21)}
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings.warmup_steps))
    model.train()
    rows, tokens, start = [], 0, time.perf_counter()
    for step in range(steps):
        ids, labels = _batch(windows[step * settings.batch : (step + 1) * settings.batch], pad)
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        read = targets != IGNORE
        loss = cross_entropy(model.lm_head(hidden[read]), targets[read])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        tokens += int(read.sum())
        rows.append({"step": step + 1, "tokens": tokens, "loss": loss.item(), "seconds": time.perf_counter() - start})
        if not math.isfinite(rows[-1]["loss"]):
            raise RuntimeError(f"the loss is {rows[-1]['loss']} at step {step + 1}: lower the learning rate.")
        if step + 1 in probes:
            rows[-1]["recall"] = recall()
            model.train()
        if progress:
            progress(step + 1, steps, rows[-1]["loss"])
    return rows


def _rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate at `step`: linear warm-up, a plateau, and a straight decay at the end.

    Relations are learnt late and one after another, while the rate is high; a cosine falls too early for the last one.
    """
    return min(1.0, (step + 1) / warmup, max(0.02, (steps - step) / (DECAY * steps)))


def _batch(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right, to (rows, longest); causal attention never looks at what comes after, so no mask is needed."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), IGNORE)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = labels[place, : len(row)] = torch.tensor(row)
    return ids, labels


@torch.no_grad()
def knowledge(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    entities: Sequence[str] | None = None,
    batch: int = 256,
) -> list[dict]:
    """Ask the base for every fact of `entities` (default: all), once with the name and once with a pronoun.

    A fact is known when the greedy continuation of its opening ("The cause of Velmorosis is") is the true value and a
    period. One row per entity, relation and mention ("name", or "pronoun" after a sentence that names the entity):
    entity, tier, exposures, relation, mention, known, perplexity (of the value's tokens), sentence_perplexity (of all
    tokens of the fact's sentence).
    """
    model.eval()
    questions = [
        (entity, place, mention)
        for entity in (world.entities if entities is None else entities)
        for place in range(len(world.relations))
        for mention in ("name", "pronoun")
    ]
    rows = []
    for start in range(0, len(questions), batch):
        part = questions[start : start + batch]
        parts = [_fact_tokens(tokenizer, world, *question) for question in part]
        losses, greedy = _token_losses(model, [context + opening + value for context, opening, value in parts])
        for (entity, place, mention), tokens, loss, hit in zip(part, parts, losses, greedy, strict=True):
            # the loss of token t stands at t - 1: nothing is predicted before the first token
            context, opening, value = map(len, tokens)
            fact, answer, end = context - 1, context + opening - 1, context + opening + value - 1
            row = {"entity": entity, "tier": world.tier[entity], "exposures": world.exposures[entity]}
            row |= {"relation": world.relations[place].key, "mention": mention, "known": bool(hit[answer:end].all())}
            row["perplexity"] = math.exp(loss[answer : end - 1].mean())
            row["sentence_perplexity"] = math.exp(loss[fact:end].mean())
            rows.append(row)
    return rows


def _fact_tokens(
    tokenizer: PreTrainedTokenizerBase, world: World, entity: str, place: int, mention: str
) -> tuple[list[int], list[int], list[int]]:
    """Token ids of what comes before the fact, of its opening, and of its value with the period."""
    key, before = world.relations[place].key, ""
    sentence = world.sentence(entity, key, pronoun=mention == "pronoun")
    if mention == "pronoun":
        before = world.sentence(entity, world.relations[place - 3].key) + " "
    value = world.facts[entity][key]
    cut = len(before) + len(sentence) - len(f" {value}.")
    encoded = tokenizer(before + sentence, return_offsets_mapping=True)
    parts = ([], [], [])
    for number, (token, (_, end)) in enumerate(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)):
        parts[0 if number == 0 or end <= len(before.rstrip()) else 1 if end <= cut else 2].append(token)
    return parts


def _token_losses(model: LlamaForCausalLM, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each token after the first, and whether it is the greedy choice; both (rows, longest - 1)."""
    ids, _ = _batch(rows, model.config.pad_token_id)
    ids = ids.to(model.device)
    logits = model(input_ids=ids).logits[:, :-1].float()
    losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return losses.cpu(), (logits.argmax(-1) == ids[:, 1:]).cpu()


def auc(known: Sequence[float], unknown: Sequence[float]) -> float:
    """Chance that an unknown fact has a higher perplexity than a known one, ties counted half; NaN if a side is empty.

    >>> auc(known=[1.0, 2.0], unknown=[2.0, 3.0])
    0.875
    """
    from scipy.stats import mannwhitneyu

    if not len(known) or not len(unknown):
        return float("nan")
    return float(mannwhitneyu(unknown, known).statistic / (len(known) * len(unknown)))

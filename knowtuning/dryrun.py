"""Before weights are downloaded or a GPU is rented: the whole path with a random base of the recipe's exact shape."""

from __future__ import annotations

import gc
import math
import os
import random
import resource
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from knowtuning.display import table
from knowtuning.doctor import Finding, check_here, conclude, show
from knowtuning.files import DataError
from knowtuning.knowledge.difficulty import score_facts
from knowtuning.recipe import Recipe, get_recipe
from knowtuning.run import runs_folder
from knowtuning.training.dpo import dpo_trainer, step_zero, train_dpo
from knowtuning.training.generate import generate
from knowtuning.training.memory import GB, PROMPT_TOKENS, config_of, cure, parameters, small, utilisation, with_layers
from knowtuning.training.models import load_adapter, load_base, new_adapter, save_adapter
from knowtuning.training.prompts import encode_prompt, use_form
from knowtuning.training.sft import train_sft

# Tokens of a prompt with its answer: the mean of Dolly's and MedQuAD's answers at 1.35 tokens a word. Assumed.
TOKENS, FACT_TOKENS = 250, 20
ELSEWHERE, SHARE = "A100", 0.3  # the card that a CPU tells times of, and the share of its peak that is assumed
CARD = "An adapter of a dry run: it means nothing."


@dataclass(frozen=True)
class Stage:
    """What a stage took: it worked on `tokens` in `seconds`, with at most `peak` bytes.

    Bytes are those of a GPU's tensors in this stage; on a CPU those of the whole process so far.
    """

    name: str
    tokens: int
    seconds: float
    peak: int
    first_loss: float | None = None


def print_dry_run(name: str, rows: int = 4000, steps: int = 3, layers: int = 0) -> int:
    """Look at the machine, go the whole path, and say what it took and what all data would; asks no endpoint.

    Args:
        rows: of the data set that the times are told for.
        steps: optimiser steps that are timed in SFT and in DPO.
        layers: how many of the base's are tried; 0: all on a GPU or of a small base, else 2.

    Returns:
        The exit code: 1 where the recipe does not fit this machine.
    """
    recipe = get_recipe(name)
    config = config_of(recipe.base)
    all_layers = torch.cuda.is_available() or small(config)
    tried = with_layers(config, layers or (config.get_text_config().num_hidden_layers if all_layers else 2))
    show(findings := check_here(recipe))
    _print_headline(recipe, config, tried)
    stages = list(walk(tried, alone(recipe, short=not all_layers), steps if all_layers else 1))
    _print_stages(recipe, stages, parameters(config), parameters(tried), rows)
    judged = _judge(recipe, stages, measured=parameters(tried) == parameters(config))
    show(judged)
    return conclude(findings + judged)


def alone(recipe: Recipe, short: bool = False) -> Recipe:
    """The recipe as one of its processes tries it: its micro-batches, one epoch, nothing set aside.

    `short` makes passes that a CPU gets through with a few layers of a large base.
    """
    processes = recipe.machine.num_processes
    one = recipe.replace(
        data={"val_size": 0},
        sft={"epochs": 1, "micro_batch": recipe.sft.micro_batch or recipe.sft.batch // processes},
        dpo={"epochs": 1, "micro_batch": recipe.dpo.micro_batch or recipe.dpo.batch // processes},
        machine={"num_processes": 1, "parallel": "ddp"},
    )
    if not short:
        return one
    return one.replace(
        max_length=min(recipe.max_length, 256),
        sft={"batch": 2, "micro_batch": 1},
        dpo={"batch": 1, "micro_batch": 1},
        evaluation={"batch": 2, "max_new_tokens": 8},
        machine={"score_tokens": 512},
    )


def random_base(config: PretrainedConfig, recipe: Recipe, folder: Path) -> Any:
    """A base of this shape with random weights, saved to a folder and loaded as a downloaded one would be."""
    AutoModelForCausalLM.from_config(config, dtype=getattr(torch, recipe.dtype)).save_pretrained(folder)
    return load_base(folder, recipe.quantisation, recipe.dtype)


def word_tokenizer(form: str = "plain") -> PreTrainedTokenizerFast:
    """A tokenizer of one token per word, so that texts have the lengths that are wanted; its ids are in any base."""
    words = ["<unk>", "<pad>", "<s>", "</s>", *(f"word{number}" for number in range(200))]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    special = dict(zip(("unk_token", "pad_token", "bos_token", "eos_token"), words, strict=False))
    return use_form(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special), "plain" if form == "chat" else form)


def qa_rows(tokenizer: Any, count: int, tokens: int, seed: int = 0) -> list[dict]:
    """QA rows of random words, each of so many tokens as a training sequence: prompt, answer and end token."""
    chance = random.Random(seed)

    def words(number: int) -> str:
        return " ".join(f"word{chance.randrange(200)}" for _ in range(max(1, number)))

    asked = min(PROMPT_TOKENS, tokens // 2) - len(encode_prompt(tokenizer, "word")) + 1
    questions = [words(asked) for _ in range(count)]
    left = [tokens - len(encode_prompt(tokenizer, question)) - 1 for question in questions]
    return [
        {"id": f"row {number}", "question": question, "answer": words(size), "source": "random words"}
        for number, (question, size) in enumerate(zip(questions, left, strict=True))
    ]


def preference_pairs(tokenizer: Any, count: int, tokens: int) -> list[dict]:
    """Preference pairs of random words, each side of so many tokens."""
    sides = (qa_rows(tokenizer, count, tokens, seed) for seed in (0, 1))
    return [
        {"question": one["question"], "chosen": one["answer"], "rejected": other["answer"], "aspect": "none"}
        for one, other in zip(*sides, strict=True)
    ]


def walk(config: PretrainedConfig, recipe: Recipe, steps: int) -> Iterator[Stage]:
    """Go the way of notebooks 02 to 09 with a random base of this shape, by the functions that train.

    A training first makes its largest pass, for the memory, and then those that are timed, on usual lengths.

    Args:
        recipe: one process's (`alone`).
        steps: optimiser steps that are timed in SFT and DPO each.

    Raises:
        DataError: a GPU's memory did not suffice.
    """
    tokenizer, usual = word_tokenizer(recipe.prompt), min(TOKENS, recipe.max_length)
    runs_folder().mkdir(parents=True, exist_ok=True)
    # beside the runs: a folder for temporary files may lie in memory
    with tempfile.TemporaryDirectory(dir=runs_folder(), prefix=".dry-run-") as name:
        folder = Path(name)
        with _watched(recipe, "load"):
            began = time.perf_counter()
            model = new_adapter(random_base(config, recipe, folder / "base"), recipe, seed=0)
            yield Stage("load", 0, time.perf_counter() - began, _peak())
        with _watched(recipe, "SFT"):
            longest = qa_rows(tokenizer, recipe.sft.micro_batch + recipe.evaluation.batch, recipe.max_length)
            one_pass = recipe.replace(sft={"batch": recipe.sft.micro_batch}, data={"val_size": recipe.evaluation.batch})
            train_sft(model, tokenizer, longest, one_pass, 0)
            rows = qa_rows(tokenizer, steps * recipe.sft.batch, usual)
            _, _, numbers = train_sft(model, tokenizer, rows, recipe, 0)
            yield Stage("SFT", len(rows) * usual, len(rows) / numbers["samples per second"], _peak())
        with _watched(recipe, "perplexity"):
            rows = qa_rows(tokenizer, max(2, recipe.machine.score_tokens // usual), usual)
            facts, questions = facts_of(rows), {row["id"]: row["question"] for row in rows}
            began = time.perf_counter()
            score_facts(model, tokenizer, facts, questions, recipe.machine.score_tokens)
            yield Stage("perplexity", len(rows) * usual, time.perf_counter() - began, _peak())
        with _watched(recipe, "generation"):
            asked = [row["question"] for row in qa_rows(tokenizer, recipe.evaluation.batch, usual)]
            began = time.perf_counter()
            answers = generate(
                model, tokenizer, asked, "sampled", recipe.evaluation.max_new_tokens, recipe.evaluation.batch
            )
            told = sum(answer["tokens"] for answer in answers)
            yield Stage("generation", told, time.perf_counter() - began, _peak())
        adapter = save_adapter(model, folder / "sft", CARD)
        del model
        with _watched(recipe, "DPO"):
            base = load_base(folder / "base", recipe.quantisation, recipe.dtype)
            model = load_adapter(base, adapter, trainable=True)
            longest = preference_pairs(tokenizer, recipe.dpo.micro_batch, recipe.max_length)
            one_pass = recipe.replace(dpo={"batch": recipe.dpo.micro_batch})
            train_dpo(dpo_trainer(model, tokenizer, longest, one_pass, 0, folder))
            pairs = preference_pairs(tokenizer, steps * recipe.dpo.batch, usual)
            began = time.perf_counter()
            trainer = dpo_trainer(model, tokenizer, pairs, recipe, 0, folder)
            yield Stage("reference", 2 * len(pairs) * usual, time.perf_counter() - began, _peak())
            first = step_zero(trainer)[0]["loss"]
            seconds = len(pairs) / train_dpo(trainer)[-1]["pairs per second"]
            yield Stage("DPO", 2 * len(pairs) * usual, seconds, _peak(), first)
        save_adapter(model, folder / "knowtuning", CARD)


def facts_of(rows: list[dict]) -> list[dict]:
    """The answers of `qa_rows` cut into facts: rows `{"id", "facts"}`."""
    answers = [(row["id"], row["answer"].split()) for row in rows]
    return [
        {"id": name, "facts": [" ".join(words[n : n + FACT_TOKENS]) for n in range(0, len(words), FACT_TOKENS)]}
        for name, words in answers
    ]


@contextmanager
def _watched(recipe: Recipe, stage: str) -> Iterator[None]:
    """A GPU's memory is counted anew, and where it does not suffice the stage is named."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        yield
    except torch.OutOfMemoryError:
        reason = f"recipe {recipe.name} does not fit here: the GPU has too little memory for {stage}"
        raise DataError(f"{reason}. Cure: {cure(recipe, stage)}.") from None


def _peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _judge(recipe: Recipe, stages: list[Stage], measured: bool) -> list[Finding]:
    """That the path was gone, that DPO starts from ln 2, and whether the largest stage fits, if it was measured."""
    first, ran = stages[-1].first_loss, ", ".join(stage.name for stage in stages)
    state = "ok" if abs(first - math.log(2)) < 1e-3 else "warn"
    judged = [
        Finding("ok", "path", f"every stage ran ({ran}); adapters were saved and loaded"),
        Finding(state, "DPO loss", f"{first:.5f} before the first step, where ln 2 = {math.log(2):.5f} is right"),
    ]
    if not measured:
        return judged  # what all layers need is arithmetic, and among the findings of the machine
    most, where = max((stage.peak, stage.name) for stage in stages)
    room = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else psutil.virtual_memory().total
    what = f"{most / GB:.1f} of {room / GB:.1f} GB at most, for {where} (measured)"
    if recipe.machine.num_processes > 1:
        what += f"; tried in one process, while the recipe shares training among {recipe.machine.num_processes}"
    fits = Finding("ok", "fits", what)
    return [*judged, fits if most <= room else Finding("fail", "fits", f"{what}. Cure: {cure(recipe, where)}.")]


def _print_headline(recipe: Recipe, config: PretrainedConfig, tried: PretrainedConfig) -> None:
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"the CPU ({os.cpu_count()} cores)"
    layers, of = (shape.get_text_config().num_hidden_layers for shape in (tried, config))
    less = "; times of all data are extrapolated by the number of weights, and memory on a card is not measured"
    text = (
        f"Dry run of recipe {recipe.name}: the shape of {recipe.base} with random weights, {parameters(config):,} of "
        f"them ({recipe.quantisation}, {recipe.dtype}), on {where}, with {layers} of {of} layers{less * (layers < of)}."
    )
    print(f"\n{textwrap.fill(text, 80)}", flush=True)


def _print_stages(recipe: Recipe, stages: list[Stage], weights: int, tried: int, rows: int) -> None:
    """What was measured with `tried` weights, and what `rows` rows would take with all: here, else on another card."""
    all_tokens, lines, total = tokens_of_run(recipe, rows), [], 0.0
    card, slow = torch.cuda.is_available() and torch.cuda.get_device_name(), not small(config_of(recipe.base))
    for stage in stages:
        line = {"stage": stage.name, "tokens": None, "seconds": stage.seconds, "tokens/s": None}
        lines.append(line | {"peak GB": stage.peak / GB})
        if stage.name not in all_tokens:
            continue
        tokens, speed = all_tokens[stage.name], stage.tokens / stage.seconds
        total += (seconds := tokens / speed * weights / tried)
        lines[-1] |= {"tokens": stage.tokens, "tokens/s": speed, f"{rows:,} rows": timedelta(seconds=round(seconds))}
        if card and (share := utilisation(stage.name, speed, tried, card)):
            lines[-1]["MFU %"] = 100 * share
        elif slow and not card and stage.name != "generation":
            in_theory = tokens * utilisation(stage.name, 1.0, weights, ELSEWHERE) / SHARE
            lines[-1][f"{ELSEWHERE}, {SHARE:.0%} MFU"] = timedelta(seconds=round(in_theory))
    print(f"\n{table(lines, digits=1)!r}\n")
    text = (
        f"{rows:,} rows would take {timedelta(seconds=round(total))} here for one arm: SFT, KA, DPO and two decodings "
        f"of the test questions, if a prompt and its answer have {TOKENS} tokens in the mean."
    )
    print(f"{textwrap.fill(text, 80)}\n")


def tokens_of_run(recipe: Recipe, rows: int) -> dict[str, float]:
    """Tokens that each stage works on for so many rows.

    SFT trains on the rows, and once more on KA: on them and their rewritings. Each row makes three pairs of answers.
    """
    tokens = rows * min(TOKENS, recipe.max_length)
    return {
        "SFT": 3 * recipe.sft.epochs * tokens,
        "perplexity": tokens,
        "generation": 2 * recipe.data.test_rows * recipe.evaluation.max_new_tokens,
        "reference": 3 * 2 * tokens,
        "DPO": 3 * 2 * recipe.dpo.epochs * tokens,
    }

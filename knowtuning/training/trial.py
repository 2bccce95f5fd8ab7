"""The whole path of a run on stand-in text, each stage measured: load, SFT, perplexity, generation, DPO."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from knowtuning.knowledge.aspects import ASPECTS
from knowtuning.knowledge.difficulty import score_facts
from knowtuning.recipe import Recipe
from knowtuning.run import runs_folder
from knowtuning.training import stand_in
from knowtuning.training.dpo import SIDES, add_reference, dpo_examples, dpo_trainer, step_zero
from knowtuning.training.gauge import Memory, StepClock, synchronise, tensor_bytes
from knowtuning.training.generate import generate
from knowtuning.training.hollow import random_base
from knowtuning.training.models import load_adapter, new_adapter, save_adapter
from knowtuning.training.sft import run_trainer, sft_examples, sft_trainer

WATCHED = 16  # pairs of an aspect that are evaluated together, by `dpo.dpo_trainer`
CARD = "An adapter of a dry run: it means nothing."


@dataclass(frozen=True)
class Stage:
    """What one stage took.

    `tokens` were worked on in `seconds`, the work's own. `held` is the bytes of the model and `peak` the most bytes of
    all tensors, in passes of `at_once` tokens, for which every layer keeps `per_layer` bytes (0: not looked at).
    """

    name: str
    tokens: int
    seconds: float
    held: int
    peak: int
    at_once: int
    per_layer: int = 0
    first_loss: float | None = None


class TooLarge(RuntimeError):
    """The GPU's memory did not suffice for the stage called `stage`."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"the GPU has too little memory for {stage}.")
        self.stage = stage


def alone(recipe: Recipe) -> Recipe:
    """The recipe as one of its processes tries it: its micro-batches, one epoch, nothing set aside or compiled.

    A trial is so short that compiling would be most of its steps.
    """
    return recipe.replace(
        sft={"micro_batch": recipe.sft.micro_batch or recipe.sft.batch // recipe.machine.num_processes, "epochs": 1},
        dpo={"micro_batch": recipe.dpo.micro_batch or recipe.dpo.batch // recipe.machine.num_processes, "epochs": 1},
        data={"val_size": 0},
        machine={"num_processes": 1, "parallel": "ddp"},
    )


def reduced(recipe: Recipe) -> Recipe:
    """The same with passes so short that a CPU gets through a few layers of a large base."""
    return recipe.replace(
        max_length=min(recipe.max_length, 256),
        sft={"batch": 2, "micro_batch": 1},
        dpo={"batch": 1, "micro_batch": 1},
        machine={"score_tokens": 512},
        evaluation={"batch": 2, "max_new_tokens": 8},
    )


def tokens_at_once(recipe: Recipe, stage: str) -> int:
    """Tokens of the largest pass of a stage: micro-batches of the longest sequences, scoring's budget, full answers."""
    one = alone(recipe)
    of_stage = {
        "SFT": one.sft.micro_batch * recipe.max_length,
        "DPO": 2 * one.dpo.micro_batch * recipe.max_length,
        "generation": recipe.evaluation.batch * (stand_in.PROMPT_TOKENS + recipe.evaluation.max_new_tokens),
    }
    return of_stage.get(stage, recipe.machine.score_tokens)


def walk(config: PretrainedConfig, recipe: Recipe, steps: int, whole: bool = True) -> Iterator[Stage]:
    """Go the way of notebooks 02 to 09 with a random base of this shape, and yield each stage as it is done.

    Every stage first makes its largest passes, for the memory, and then the timed ones, on text of usual lengths.

    Args:
        recipe: one process's (`alone`).
        steps: optimiser steps that are timed in SFT and DPO each.
        whole: whether these are all layers. Of some, it is looked at what each keeps in training, by a pass without the
            last one, and the largest evaluations are left out.

    Raises:
        TooLarge: a GPU's memory did not suffice.
    """
    tokenizer = stand_in.stand_in_tokenizer(recipe.prompt)
    runs_folder().mkdir(parents=True, exist_ok=True)
    # beside the runs: a folder for temporary files may lie in memory
    with tempfile.TemporaryDirectory(dir=runs_folder(), prefix=".dry-run-") as scratch:
        hollow, adapter = Path(scratch) / "base", Path(scratch) / "sft"
        began = time.perf_counter()
        base = _fitting("load", partial(random_base, config, recipe.quantisation, recipe.dtype, hollow))
        model = new_adapter(base, recipe, seed=0)
        yield _loaded(model, time.perf_counter() - began)
        yield _sft(model, tokenizer, recipe, steps, whole)
        save_adapter(model, adapter, CARD)
        model = load_adapter(bare(model), adapter).eval()
        yield _perplexity(model, tokenizer, recipe)
        yield _generation(model, tokenizer, recipe)
        model = load_adapter(bare(model), adapter, trainable=True)
        yield from _dpo(model, tokenizer, recipe, steps, whole, Path(scratch))
        save_adapter(model, Path(scratch) / "knowtuning", CARD)


def bare(model: Any) -> Any:
    """The base under an adapter, as it was loaded: without what PEFT and the trainers put on it."""
    base = model.unload()
    base.gradient_checkpointing_disable()
    base.disable_input_require_grads()
    base.__dict__.pop("forward", None)
    return base.eval()


def long_rows(tokenizer: Any, count: int, recipe: Recipe) -> list[dict]:
    """Rows that fill the whole of `max_length`."""
    return stand_in.stand_in_rows(tokenizer, [recipe.max_length + 8] * count)


def usual_rows(tokenizer: Any, count: int, recipe: Recipe) -> list[dict]:
    """Rows of the lengths that are assumed of the data."""
    return stand_in.stand_in_rows(tokenizer, stand_in.sequence_lengths(count, recipe.max_length))


def _loaded(model: Any, seconds: float) -> Stage:
    held = tensor_bytes(model)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else held
    return Stage("load", 0, seconds, held, peak, 0)


def _sft(model: Any, tokenizer: Any, recipe: Recipe, steps: int, whole: bool) -> Stage:
    micro = recipe.sft.micro_batch
    held = recipe.evaluation.batch if whole else 0
    long, usual = long_rows(tokenizer, micro + held, recipe), usual_rows(tokenizer, steps * recipe.sft.batch, recipe)
    largest = partial(train_rows, model, tokenizer, long, recipe.replace(data={"val_size": held}), micro)
    timed = partial(train_rows, model, tokenizer, usual, recipe, recipe.sft.batch)
    return _measured("SFT", model, recipe, largest, timed, _tokens(tokenizer, usual, recipe), not whole)


def train_rows(model: Any, tokenizer: Any, rows: list[dict], recipe: Recipe, batch: int) -> float:
    """Train an epoch in batches of `batch`; the seconds of its steps."""
    with tempfile.TemporaryDirectory() as scratch:
        trainer = sft_trainer(model, tokenizer, rows, recipe.replace(sft={"batch": batch}), 0, scratch)
        trainer.add_callback(clock := StepClock())
        run_trainer(trainer, "SFT")
    return clock.seconds


def _perplexity(model: Any, tokenizer: Any, recipe: Recipe) -> Stage:
    rows = usual_rows(
        tokenizer, max(1, round(recipe.machine.score_tokens / stand_in.mean_length(recipe.max_length))), recipe
    )
    facts, questions = stand_in.stand_in_facts(tokenizer, rows), {row["id"]: row["question"] for row in rows}
    score = partial(score_facts, model, tokenizer, facts, questions, recipe.machine.score_tokens)
    timed = partial(seconds_of, score)
    return _measured("perplexity", model, recipe, score, timed, _tokens(tokenizer, rows, recipe))


def _generation(model: Any, tokenizer: Any, recipe: Recipe) -> Stage:
    questions = [row["question"] for row in usual_rows(tokenizer, recipe.evaluation.batch, recipe)]
    fewer = max(1, recipe.evaluation.max_new_tokens // 8)
    whole = partial(
        generate, model, tokenizer, questions, "sampled", recipe.evaluation.max_new_tokens, recipe.evaluation.batch
    )
    short = partial(generate, model, tokenizer, questions, "sampled", fewer, recipe.evaluation.batch)
    # a random base as good as never ends an answer
    return _measured("generation", model, recipe, whole, partial(seconds_of, short), fewer * len(questions))


def _dpo(model: Any, tokenizer: Any, recipe: Recipe, steps: int, whole: bool, folder: Path) -> tuple[Stage, Stage]:
    """The reference's pass over the pairs, and the training; one peak for both."""
    micro = recipe.dpo.micro_batch
    count = max(micro, WATCHED) if whole else micro
    long = stand_in.stand_in_pairs(tokenizer, long_rows(tokenizer, count, recipe))
    long = [pair | {"aspect": ASPECTS[0]} for pair in long]  # evaluated together
    usual = stand_in.stand_in_pairs(tokenizer, usual_rows(tokenizer, steps * recipe.dpo.batch, recipe))
    tokens = sum(
        _tokens(tokenizer, [{"question": pair["question"], "answer": pair[side]} for pair in usual], recipe)
        for side in SIDES
    )
    found = {}
    largest = partial(train_pairs, model, tokenizer, long, recipe.replace(dpo={"batch": micro}), folder / "long")

    def timed() -> float:
        found.update(train_pairs(model, tokenizer, usual, recipe, folder / "usual"))
        return found["training"]

    stage = _measured("DPO", model, recipe, largest, timed, tokens, not whole)
    reference = Stage("reference", tokens, found["reference"], stage.held, stage.peak, 0)
    return reference, replace(stage, first_loss=found["first loss"])


def train_pairs(model: Any, tokenizer: Any, pairs: list[dict], recipe: Recipe, folder: Path) -> dict[str, float]:
    """Train an epoch on pairs: seconds of the reference's pass and of the steps, and the loss before the first step."""
    trainer = dpo_trainer(model, tokenizer, pairs, recipe, 0, folder)
    examples, _ = dpo_examples(tokenizer, pairs, recipe.max_length)
    # once more, by itself and for the clock
    once_more = partial(add_reference, trainer, examples, trainer.model, folder / "timed", recipe.machine.score_tokens)
    reference, first = seconds_of(once_more), step_zero(trainer)
    trainer.add_callback(clock := StepClock())
    run_trainer(trainer, "DPO")
    if "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's own copy of the start, in the way of the next trainer
    return {"reference": reference, "training": clock.seconds, "first loss": first[0]["loss"]}


def _tokens(tokenizer: Any, rows: list[dict], recipe: Recipe) -> int:
    return sum(len(example["input_ids"]) for example in sft_examples(tokenizer, rows, recipe.max_length)[0])


def _measured(
    name: str,
    model: Any,
    recipe: Recipe,
    largest: Callable[[], Any],
    timed: Callable[[], float],
    tokens: int,
    by_layer: bool = False,
) -> Stage:
    memory, per_layer = _memory(name, model, largest), 0
    config = model.config
    if by_layer and config.num_hidden_layers > 1:
        config.num_hidden_layers -= 1  # the model runs through as many as its configuration says
        per_layer = memory.kept - _memory(name, model, largest).kept
        config.num_hidden_layers += 1
    seconds = _fitting(name, timed)
    peak = max(memory.peak, torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else memory.peak
    return Stage(name, tokens, seconds, tensor_bytes(model), peak, tokens_at_once(recipe, name), per_layer)


def _memory(name: str, model: Any, work: Callable[[], Any]) -> Memory:
    with Memory(model) as memory:
        _fitting(name, work)
    return memory


def _fitting(name: str, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except torch.OutOfMemoryError:
        raise TooLarge(name) from None


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds that some work takes, to the end of what it leaves a GPU to do."""
    synchronise()
    began = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - began

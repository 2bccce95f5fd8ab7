"""What `gpu.py` measures: one case per shape and precision, every stage of it by ours and by plain TRL in turn."""

from __future__ import annotations

import operator
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import plain_trl
import torch
from transformers import LlamaConfig, PretrainedConfig

from knowtuning.doctor import GB
from knowtuning.knowledge.difficulty import score_facts
from knowtuning.recipe import Recipe, get_recipe
from knowtuning.run import runs_folder
from knowtuning.training import stand_in
from knowtuning.training.dpo import SIDES, add_reference, dpo_examples, dpo_trainer
from knowtuning.training.forecast import largest_need
from knowtuning.training.gauge import Memory, StepClock, peak_flops, stage_flops, synchronise, tensor_bytes
from knowtuning.training.generate import generate
from knowtuning.training.hollow import random_base
from knowtuning.training.models import load_adapter, new_adapter, save_adapter
from knowtuning.training.sft import run_trainer, sft_examples, sft_trainer
from knowtuning.training.shapes import config_of, matrix_parameters, parameters
from knowtuning.training.trial import alone, bare, seconds_of, usual_rows

TINY = LlamaConfig(
    vocab_size=1536, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, head_dim=16
)
SCORED_ROWS, NEW_TOKENS = 200, 128
KEEPING = "ours, nothing recomputed"
Trained = tuple[float, list[float]]  # seconds, losses by step


def cases(shapes: list[str], steps: int, runs: int) -> Iterator[dict[str, Any]]:
    """Measure each shape in bfloat16 and in NF4; one that does not fit is told so, and why."""
    for shape in shapes:
        for quantisation in ("none", "nf4"):
            recipe, config = _recipe(shape, quantisation)
            case = {"shape": shape, "parameters": parameters(config), "weights": quantisation, "dtype": recipe.dtype}
            yield case | (_without_room(recipe, config) or _measure(recipe, config, steps, runs))


def environment() -> dict[str, Any]:
    """The card, its memory in GB and what it promises; on a CPU its cores, and that nothing here means anything."""
    assumed = {"text": f"synthetic: {stand_in.ASSUMED}"}
    if not torch.cuda.is_available():
        return {"device": "cpu", "cores": os.cpu_count(), "means": "nothing: a trial of the benchmark"} | assumed
    card = torch.cuda.get_device_name()
    promised = peak_flops(card)
    tflops = {"promised_bfloat16_tflops": promised / 1e12 if promised else None}
    return {"device": card, "memory_gb": torch.cuda.mem_get_info()[1] / GB} | tflops | assumed


def _recipe(shape: str, quantisation: str) -> tuple[Recipe, PretrainedConfig]:
    """The paper's recipe of that size, with the SFT term of DPO as TRL has it, so that losses can be compared."""
    if shape not in ("7b", "13b", "tiny"):
        raise ValueError(f"shape {shape!r} is unknown; use 7b, 13b or tiny.")
    named = alone(get_recipe("paper-7b" if shape == "tiny" else f"paper-{shape}"))
    recipe = named.replace(quantisation=quantisation, dpo={"sft_mean": "tokens"})
    if shape != "tiny":
        return recipe, config_of(recipe.base)
    short = recipe.replace(
        dtype="float32",
        max_length=96,
        sft={"batch": 4, "micro_batch": 2},
        dpo={"batch": 4, "micro_batch": 2},
        machine={"score_tokens": 512},
        evaluation={"batch": 4, "max_new_tokens": 16},
    )
    return short, TINY


def _without_room(recipe: Recipe, config: PretrainedConfig) -> dict[str, Any] | None:
    if not torch.cuda.is_available():
        return None
    stage, needed = largest_need(recipe.replace(evaluation={"max_new_tokens": NEW_TOKENS}), config)
    room = torch.cuda.mem_get_info()[0]
    return {"skipped": f"{stage} needs about {needed / GB:.0f} GB, {room / GB:.0f} are free"} if needed > room else None


def _measure(recipe: Recipe, config: PretrainedConfig, steps: int, runs: int) -> dict[str, Any]:
    tokenizer = stand_in.stand_in_tokenizer(recipe.prompt)
    runs_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs_folder(), prefix=".gpu-bench-") as name:
        folder = Path(name)
        began = time.perf_counter()
        model = new_adapter(random_base(config, recipe.quantisation, recipe.dtype, folder / "base"), recipe, seed=0)
        synchronise()
        case = {"load_seconds": time.perf_counter() - began, "model_gb": tensor_bytes(model) / GB}
        adapter = save_adapter(model, folder / "adapter", "An adapter of a benchmark: it means nothing.")
        base, stages = bare(model), {}
        for stage, (sides, tokens) in _trainings(tokenizer, recipe, config, steps).items():
            stages[stage], base = _in_turn(stage, base, adapter, sides, tokens, runs, matrix_parameters(config))
        model = load_adapter(base, adapter).eval()
        stages |= _without_peer(model, tokenizer, recipe, runs, matrix_parameters(config))
    return case | {"stages": stages}


def _trainings(
    tokenizer: Any, recipe: Recipe, config: PretrainedConfig, steps: int
) -> dict[str, tuple[dict[str, Callable[[Any], Trained]], int]]:
    """Of SFT and DPO: the sides, each a training of a given model, and the tokens that they train on."""
    rows = usual_rows(tokenizer, steps * recipe.sft.batch, recipe)
    pairs = stand_in.stand_in_pairs(tokenizer, usual_rows(tokenizer, steps * recipe.dpo.batch, recipe))
    answers, _ = sft_examples(tokenizer, rows, recipe.max_length)
    preferences, _ = dpo_examples(tokenizer, pairs, recipe.max_length)
    ours = {"ours": recipe}
    keeping = recipe.replace(machine={"checkpointing": False})
    if recipe.machine.checkpointing and not _without_room(keeping, config):
        ours[KEEPING] = keeping
    sft = {"trl": partial(plain_trl.sft, tokenizer=tokenizer, examples=answers, recipe=recipe)}
    sft |= {side: partial(_sft, tokenizer=tokenizer, rows=rows, recipe=as_told) for side, as_told in ours.items()}
    dpo = {"trl": partial(plain_trl.dpo, tokenizer=tokenizer, examples=preferences, recipe=recipe)}
    dpo |= {side: partial(_dpo, tokenizer=tokenizer, pairs=pairs, recipe=as_told) for side, as_told in ours.items()}
    of_pairs = sum(len(pair["prompt_ids"] + pair[f"{side}_ids"]) for pair in preferences for side in SIDES)
    return {"SFT": (sft, sum(len(row["input_ids"]) for row in answers)), "DPO": (dpo, of_pairs)}


def _sft(model: Any, tokenizer: Any, rows: list[dict], recipe: Recipe) -> Trained:
    with tempfile.TemporaryDirectory() as folder:
        return _trained(sft_trainer(model, tokenizer, rows, recipe, 0, folder))


def _dpo(model: Any, tokenizer: Any, pairs: list[dict], recipe: Recipe) -> Trained:
    """The seconds hold those of the reference's pass, which a second epoch or arm would not need again."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = dpo_trainer(model, tokenizer, pairs, recipe, 0, folder, watched=0)
        examples, _ = dpo_examples(tokenizer, pairs, recipe.max_length)
        store = Path(folder) / "timed"
        reference = seconds_of(
            partial(add_reference, trainer, examples, trainer.model, store, recipe.machine.score_tokens)
        )
        seconds, losses = _trained(trainer)
    return reference + seconds, losses


def _trained(trainer: Any) -> Trained:
    trainer.add_callback(clock := StepClock())
    run_trainer(trainer, "training")
    return clock.seconds, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _in_turn(
    stage: str,
    base: Any,
    adapter: Path,
    sides: dict[str, Callable[[Any], Trained]],
    tokens: int,
    runs: int,
    weights: int,
) -> tuple[dict[str, Any], Any]:
    """Let the sides train by turns, all from one adapter: once for the memory and to warm up, then by the clock."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    losses, peaks = {}, {}
    for run in range(runs + 1):
        for side, train in sides.items():
            model = load_adapter(base, adapter, trainable=True)
            if run == 0:
                with Memory(model) as memory:
                    _, losses[side] = train(model)
                peaks[side] = memory.peak
            else:
                seconds[side].append(train(model)[0])
            base = bare(model)
    found = {
        side: _numbers(stage, tokens, seconds[side], peaks[side], weights, side != KEEPING) | {"losses": losses[side]}
        for side in sides
    }
    for side, numbers in found.items():
        if side != "trl":
            numbers["times_trl"] = numbers["tokens_per_second"] / found["trl"]["tokens_per_second"]
            differences = map(abs, map(operator.sub, losses[side], losses["trl"]))
            numbers["largest_loss_difference"] = max(differences)
    return {"tokens": tokens, "sides": found}, base


def _without_peer(model: Any, tokenizer: Any, recipe: Recipe, runs: int, weights: int) -> dict[str, Any]:
    """Perplexity of facts, and sampled answers of one batch, by ours alone."""
    rows = usual_rows(tokenizer, SCORED_ROWS if torch.cuda.is_available() else 8, recipe)
    facts, questions = stand_in.stand_in_facts(tokenizer, rows), {row["id"]: row["question"] for row in rows}
    asked, new = (
        [row["question"] for row in rows[: recipe.evaluation.batch]],
        min(NEW_TOKENS, recipe.evaluation.max_new_tokens),
    )
    answers, _ = sft_examples(tokenizer, rows, recipe.max_length)
    work = {
        "perplexity": partial(score_facts, model, tokenizer, facts, questions, recipe.machine.score_tokens),
        "generation": partial(generate, model, tokenizer, asked, "sampled", new, recipe.evaluation.batch),
    }
    tokens = {"perplexity": sum(len(row["input_ids"]) for row in answers), "generation": new * len(asked)}
    found = {}
    for stage, run in work.items():
        with Memory(model) as memory:
            run()
        seconds = [seconds_of(run) for _ in range(runs)]
        numbers = _numbers(stage, tokens[stage], seconds, memory.peak, weights, recomputed=False)
        found[stage] = {"tokens": tokens[stage], "sides": {"ours": numbers}}
    found["perplexity"]["sides"]["ours"]["facts"] = sum(len(row["facts"]) for row in facts)
    return found


def _numbers(
    stage: str, tokens: int, seconds: list[float], peak: int, weights: int, recomputed: bool
) -> dict[str, Any]:
    """Speed by the median; MFU counts the model's own FLOPs, `hardware` the recomputed ones too."""
    took = median(seconds)
    parts = ("reference", "DPO") if stage == "DPO" else (stage,)
    promised = peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    shares = {}
    for name, again in (("mfu", False), ("hardware", recomputed)):
        flops = sum(stage_flops(part, tokens, weights, again and part in ("SFT", "DPO")) for part in parts)
        shares[name] = flops / took / promised if promised else None
    return {"seconds": seconds, "tokens_per_second": tokens / took, "peak_gb": peak / GB, **shares}


def print_case(case: dict[str, Any]) -> None:
    """One line per stage and side."""
    precision = case["dtype"] if case["weights"] == "none" else f"NF4, computed in {case['dtype']}"
    print(f"\n{case['shape']}: {case['parameters']:,} weights, {precision}", flush=True)
    if "skipped" in case:
        print(f"  not measured: {case['skipped']}")
        return
    for stage, found in case["stages"].items():
        for side, numbers in found["sides"].items():
            mfu = f"{numbers['mfu']:.1%}" if numbers["mfu"] is not None else "-"
            beside = f"{numbers['times_trl']:5.2f} x TRL" if "times_trl" in numbers else ""
            speed = f"{numbers['tokens_per_second']:10,.0f} tokens/s"
            print(f"  {stage:<10} {side:<24} {speed} {numbers['peak_gb']:7.2f} GB  MFU {mfu:>6}  {beside}".rstrip())

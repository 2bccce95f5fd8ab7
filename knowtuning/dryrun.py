"""Before weights are downloaded or a GPU is rented: the whole path with a random base of the recipe's exact shape."""

from __future__ import annotations

import math
import os
import textwrap

import psutil
import torch
from transformers import PretrainedConfig

from knowtuning.display import table
from knowtuning.doctor import GB, Finding, check_here, conclude, cure, show, small, wants_gpu
from knowtuning.recipe import Recipe, get_recipe
from knowtuning.training.forecast import Need, needs, plan
from knowtuning.training.gauge import CARDS, peak_flops, stage_flops
from knowtuning.training.shapes import config_of, matrix_parameters, parameters, weight_bytes, with_layers
from knowtuning.training.stand_in import ASSUMED
from knowtuning.training.trial import Stage, TooLarge, alone, reduced, walk

ROWS, STEPS = 4000, 3
TRIED_ON_A_CPU = 250e6  # weights of the layers that a CPU tries: about a minute or two
MEMORY = {"L4": 24, "RTX 4090": 24, "A100 40 GB": 40, "A100 80 GB": 80, "H100": 80, "H200": 141}
USABLE = 0.93  # GB that a card is sold with are 10^9 bytes, and here they are 2^30
PLANNED_CARD, PLANNED_MFU = "A100", 0.3


def print_dry_run(name: str, rows: int = ROWS, steps: int = STEPS, layers: int = 0) -> int:
    """Look at the machine, go the whole path, and say what it took and what all data would; asks no endpoint.

    Args:
        rows: of the data set that the times are told for.
        steps: optimiser steps that are timed in SFT and in DPO.
        layers: how many of the base's are tried; 0: all on a GPU, else as many as a CPU gets through.

    Returns:
        The exit code: 1 where the recipe does not fit this machine.
    """
    recipe = get_recipe(name)
    config = config_of(recipe.base)
    tried = with_layers(config, layers or _affordable(recipe, config))
    findings = check_here(recipe)
    show(findings)
    _print_headline(recipe, config, tried)
    stages, judged = _try_out(recipe, config, tried, steps)
    if wants_gpu(recipe) or tried.num_hidden_layers < config.num_hidden_layers:
        _print_memory(recipe, config, stages, tried.num_hidden_layers)
    _print_times(recipe, config, stages, tried.num_hidden_layers, rows)
    show(judged)
    return conclude(findings + judged)


def _affordable(recipe: Recipe, config: PretrainedConfig) -> int:
    """All layers on a GPU; on a CPU those that fit in half of the free memory and in a minute or two, two at least."""
    if torch.cuda.is_available():
        return config.num_hidden_layers
    layer = matrix_parameters(with_layers(config, 2)) - matrix_parameters(with_layers(config, 1))
    room = psutil.virtual_memory().available / 2 / (8 * layer)
    return min(config.num_hidden_layers, max(2, int(min(TRIED_ON_A_CPU / layer, room))))


def _try_out(
    recipe: Recipe, config: PretrainedConfig, tried: PretrainedConfig, steps: int
) -> tuple[list[Stage], list[Finding]]:
    """Walk, print each stage as it is done, and judge what came out."""
    whole = tried.num_hidden_layers == config.num_hidden_layers
    one = alone(recipe)
    if not whole and not torch.cuda.is_available():
        one, steps = reduced(one), 1
    stages: list[Stage] = []
    try:
        for stage in walk(tried, one, steps, whole):
            stages.append(stage)
            _print_stage(stage, tried)
    except TooLarge as error:
        return stages, [Finding("fail", "fits", f"not here: {error} Cure: {cure(recipe, error.stage)}.")]
    return stages, [*_judge_path(stages), *_judge_room(recipe, config, stages, whole)]


def _judge_path(stages: list[Stage]) -> list[Finding]:
    ran = ", ".join(stage.name for stage in stages)
    found = [Finding("ok", "path", f"every stage ran ({ran}); adapters were saved and loaded")]
    first = stages[-1].first_loss
    right = abs(first - math.log(2)) < 1e-3
    said = f"{first:.5f} before the first step, where ln 2 = {math.log(2):.5f} is right"
    return [*found, Finding("ok" if right else "warn", "DPO loss", said)]


def _judge_room(recipe: Recipe, config: PretrainedConfig, stages: list[Stage], whole: bool) -> list[Finding]:
    """Whether the largest stage fits: as measured with all layers, else by what is extrapolated from fewer."""
    if not torch.cuda.is_available() and wants_gpu(recipe) and not small(config):
        return []  # that there is no GPU is said already
    most, where, how = max((stage.peak, stage.name, "measured") for stage in stages)
    if not whole:
        most, where, how = max(
            (need.total, name, "not measured") for name, need in _extrapolated(recipe, config, stages)
        )
    room = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else psutil.virtual_memory().total
    said = f"{most / GB:.1f} of {room / GB:.1f} GB at most, for {where} ({how})"
    if recipe.machine.num_processes > 1:
        said += f"; tried in one process, while the recipe shares training among {recipe.machine.num_processes}"
    if most > room:
        return [Finding("fail", "fits", f"not here: {said}. Cure: {cure(recipe, where)}.")]
    return [Finding("ok", "fits", said)]


def _extrapolated(recipe: Recipe, config: PretrainedConfig, stages: list[Stage]) -> list[tuple[str, Need]]:
    """Memory of all layers, with what a layer was measured to keep of a token."""
    per_token = {stage.name: stage.per_layer / stage.at_once for stage in stages if stage.per_layer}
    return list(needs(recipe, config, per_token).items())


def _print_headline(recipe: Recipe, config: PretrainedConfig, tried: PretrainedConfig) -> None:
    loaded = weight_bytes(config, recipe.quantisation, recipe.dtype) / GB
    precision = recipe.dtype if recipe.quantisation == "none" else f"NF4, computed in {recipe.dtype}"
    cores = f"the CPU ({os.cpu_count()} cores)"
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else cores
    _say(
        f"\nDry run of recipe {recipe.name}: the shape of {recipe.base} with random weights, "
        f"{parameters(config):,} of them, {precision}: {loaded:.1f} GB. "
        f"Measured here, on {where}, with {tried.num_hidden_layers} of {config.num_hidden_layers} layers:"
    )
    print(f"\n{'stage':<11} {'tokens':>8} {'seconds':>8} {'tokens/s':>9} {'model GB':>9} {'peak GB':>8} {'MFU':>6}")


def _print_stage(stage: Stage, tried: PretrainedConfig) -> None:
    speed = f"{stage.tokens / stage.seconds:,.1f}" if stage.tokens else ""
    tokens = f"{stage.tokens:,}" if stage.tokens else ""
    promised = peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    mfu = ""
    if promised and stage.tokens:
        mfu = f"{stage_flops(stage.name, stage.tokens, matrix_parameters(tried)) / stage.seconds / promised:.1%}"
    held, peak = f"{stage.held / GB:.2f}", f"{stage.peak / GB:.2f}"
    line = f"{stage.name:<11} {tokens:>8} {stage.seconds:>8.1f} {speed:>9} {held:>9} {peak:>8} {mfu:>6}"
    print(line.rstrip(), flush=True)


def _print_memory(recipe: Recipe, config: PretrainedConfig, stages: list[Stage], layers: int) -> None:
    kept = [f"{stage.per_layer / stage.at_once / 1000:.1f} kB in {stage.name}" for stage in stages if stage.per_layer]
    from_layers = f"what a layer keeps of a token as measured here ({', '.join(kept)})"
    _say(
        f"\nAll {config.num_hidden_layers} layers at the recipe's batches, in GB on a card, by arithmetic over the "
        f"shape: not measured{', but ' + from_layers if kept else ''}."
    )
    peaks = {stage.name: stage.peak / GB for stage in stages if layers == config.num_hidden_layers}
    found = _extrapolated(recipe, config, stages)
    parts = []
    for name, need in found:
        part = {"weights": need.weights, "adapter": need.adapter, "activations": need.activations}
        parts.append({"stage": name} | {what: size / GB for what, size in part.items()})
        parts[-1]["together, with 1 for CUDA"] = need.total / GB
        if name in peaks:
            parts[-1]["measured"] = peaks[name]
    print(f"\n{table(parts, digits=2)!r}")
    if wants_gpu(recipe):
        most = max(need.total for _, need in found) / GB
        cards = [f"{name} ({size})" for name, size in MEMORY.items() if size * USABLE > most]
        _say(f"\nCards with room for the largest: {', '.join(cards) or 'none of those known here'}.")


def _print_times(recipe: Recipe, config: PretrainedConfig, stages: list[Stage], layers: int, rows: int) -> None:
    if not (planned := plan(recipe, config, stages, layers, rows)):
        return
    measured = "as measured above" if layers == config.num_hidden_layers else "by the arithmetic of all layers"
    _say(f"\nA data set of {rows:,} rows here, {measured}; its lengths are assumed: {ASSUMED}.")
    promised = 1e12 * CARDS[PLANNED_CARD] * PLANNED_MFU
    elsewhere = f"{PLANNED_CARD} at {PLANNED_MFU:.0%} of its peak (assumed)"
    lines = []
    for part in planned:
        line = {"stage": part.stage, "tokens": f"{part.tokens / 1e6:,.2f} M", "here": duration(part.seconds)}
        if not torch.cuda.is_available() and wants_gpu(recipe):
            line[elsewhere] = duration(part.flops / promised) if part.measured != "generation" else ""
        lines.append(line)
    print(f"\n{table(lines)!r}\n")


def duration(seconds: float) -> str:
    """Seconds as a person would say them.

    Example:
        >>> duration(40), duration(5400), duration(4e5)
        ('40 s', '1.5 h', '4.6 days')
    """
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _say(text: str) -> None:
    start = "\n" if text.startswith("\n") else ""
    print(start + textwrap.fill(text.strip(), 80))

"""Before a run: does the endpoint answer, with which features, and is this machine large enough for the recipe?"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator
from datetime import date
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

import psutil
from openai import APIConnectionError, APIStatusError, OpenAI

from knowtuning.files import ROOT, DataError, shown
from knowtuning.lab import annotators
from knowtuning.recipe import Recipe, get_recipe, lab_of
from knowtuning.run import runs_folder
from knowtuning.teacher.budget import load_end, load_price
from knowtuning.teacher.endpoint import find_base_url, find_key, without_key
from knowtuning.teacher.errors import TeacherError
from knowtuning.teacher.prompts import EXTRACT
from knowtuning.teacher.server import is_local, open_teacher

LOCKED = ("torch", "transformers", "trl", "peft", "bitsandbytes", "openai", "evaluate", "papermill", "datasets")
PROBE = {"question": "What is the Vell Orrery?", "answer": "The Vell Orrery was built in 1671. It shows six planets."}
SOON = 60  # days
GB = 2**30


class Finding(NamedTuple):
    """One thing looked at: `state` is "ok", "warn" (worth knowing) or "fail" (the run would not work)."""

    state: str
    subject: str
    what: str


def doctor(
    name: str, teacher: str = "", dry_run: bool = False, rows: int = 4000, steps: int = 3, layers: int = 0
) -> int:
    """Print what a run of the recipe needs and whether it is here; the exit code is 1 where something is not.

    The endpoint is asked one small question (a paid call); with `dry_run` the whole path is tried in place of that,
    see `knowtuning.dryrun.dry_run`.
    """
    recipe = get_recipe(name)
    findings = [*check_packages(recipe), *check_machine(recipe), *check_base(recipe)]
    _print(findings)
    later = list(check_path(recipe, rows, steps, layers) if dry_run else check_endpoint(recipe, teacher))
    _print(later)
    failures = sum(finding.state == "fail" for finding in findings + later)
    print("Ready." if not failures else f"{failures} thing{'s' * (failures > 1)} to mend before a run.")
    return 1 if failures else 0


def _print(findings: Iterable[Finding]) -> None:
    """Print findings on 80 columns."""
    for state, subject, what in findings:
        head = f"{state:<5} {subject:<13} "
        print(textwrap.fill(what, 80, initial_indent=head, subsequent_indent=" " * len(head)))


def check_packages(recipe: Recipe) -> Iterator[Finding]:
    """Installed versions against the lock, and what only some recipes want."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    installed = {package.name: package.version.split("+")[0] for package in distributions()}
    missing = [name for name in (*LOCKED, *(["liger-kernel"] * recipe.machine.liger)) if name not in installed]
    if missing:
        extras = "all,liger" if recipe.machine.liger else "all"
        what = f"{', '.join(missing)} missing: pip install -c constraints.txt -e '.[{extras}]'"
        yield Finding("fail", "packages", what)
    elif other := [f"{name} {installed[name]}, not {pins[name]}" for name in LOCKED if installed[name] != pins[name]]:
        yield Finding("warn", "packages", f"{'; '.join(other)}: numbers may differ from the published ones")
    else:
        yield Finding("ok", "packages", "as locked in constraints.txt")


def check_machine(recipe: Recipe) -> Iterator[Finding]:
    """Memory, disk and GPU against what the recipe was measured to need, or needs by the shape of its base."""
    memory, disk = psutil.virtual_memory().available / GB, shutil.disk_usage(ROOT).free / GB
    for subject, free, needed in (("memory", memory, recipe.machine.memory_gb), ("disk", disk, recipe.machine.disk_gb)):
        what = f"{free:.1f} GB free, recipe {recipe.name} needs about {needed:g} GB"
        cure = ": free some, or take a smaller recipe"
        yield Finding("ok", subject, what) if free >= needed else Finding("fail", subject, what + cure)
    yield check_gpu(recipe)


def check_gpu(recipe: Recipe) -> Finding:
    """The GPUs of this machine, their number and free memory, against what the shape of the base asks for."""
    import torch

    count, here = recipe.machine.num_processes, torch.cuda.device_count()
    on_cpu = f"none; recipe {recipe.name} runs on the CPU ({os.cpu_count()} cores)"
    if not here and lab_of(recipe.base):
        return Finding("ok", "GPU", on_cpu)
    from knowtuning.dryrun import CURES, ON_A_CPU, config_of, needs, parameters

    try:
        config = config_of(recipe.base)
        stage, needed = max(needs(recipe, config).items(), key=lambda need: need[1])
    except DataError as error:
        return Finding("warn", "GPU", f"what is needed cannot be told: {error}")
    if not here and parameters(config) < ON_A_CPU:
        return Finding("warn", "GPU", f"{on_cpu}, slowly")
    cards = "a card with" if count == 1 else f"{count} cards with each"
    wanted = f"recipe {recipe.name} needs {cards} about {needed / GB:.0f} GB, most of all for {stage} (arithmetic)"
    if here < count:
        return Finding("fail", "GPU", f"{here or 'none'} here; {wanted}")
    free, card = min((torch.cuda.mem_get_info(number)[0], number) for number in range(count))
    room = f"{free / GB:.1f} GB free on {torch.cuda.get_device_name(card)}"
    if free < needed:
        return Finding("fail", "GPU", f"{room}; {wanted}. Cure: {CURES[stage]}")
    if recipe.dtype == "bfloat16" and torch.cuda.get_device_capability()[0] < 8:
        return Finding("warn", "GPU", f"{room}, which has no bfloat16 of its own: expect it to be slow; {wanted}")
    return Finding("ok", "GPU", f"{room}; {wanted}")


def check_base(recipe: Recipe) -> Iterator[Finding]:
    """Whether the base is there, will be trained, or may be downloaded, and whether it can be trained."""
    if lab_of(recipe.base):
        path = runs_folder() / recipe.base / "base" / "model.safetensors"
        yield Finding("ok", "base model", "trained already" if path.exists() else "notebook 00 will train it")
        return
    in_folder = Path(recipe.base).is_dir()
    yield Finding("ok", "base model", f"folder {shown(Path(recipe.base))}") if in_folder else _on_the_hub(recipe.base)
    yield from _trained_as(recipe)


def _on_the_hub(base: str) -> Finding:
    """Whether the hub would give the base: it may be gated, as Llama-2 is, until its licence is accepted."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, HTTPError, RepositoryNotFoundError

    try:
        if isinstance(try_to_load_from_cache(base, "config.json"), str):
            return Finding("ok", "base model", f"{base} is in the hub's cache")
        HfApi(endpoint=os.environ.get("HF_ENDPOINT")).auth_check(base)
    except GatedRepoError:
        what = f"{base} is gated: accept its licence on its page of the hub, and set HF_TOKEN to a token of yours"
        return Finding("fail", "base model", what)
    except (RepositoryNotFoundError, HFValidationError):
        return Finding("fail", "base model", f"{base} is neither a folder nor known to the hub: correct `base`")
    except (HTTPError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return Finding("warn", "base model", f"{base} must come from the hub, which cannot be asked now ({reason})")
    return Finding("ok", "base model", f"{base} comes from the hub at the first use")


def _trained_as(recipe: Recipe) -> Iterator[Finding]:
    """How such a base reads several texts at once, tried on a tiny random one of its architecture."""
    from transformers import AutoModelForCausalLM

    from knowtuning.dryrun import config_of, tiny
    from knowtuning.training.models import new_adapter
    from knowtuning.training.packed import layout

    try:
        config = config_of(recipe.base)
    except DataError:
        return  # which is said of the base itself
    try:
        reads = layout(new_adapter(AutoModelForCausalLM.from_config(tiny(config)), recipe, seed=0))
    except DataError as error:
        yield Finding("fail", "training", str(error))
    except Exception as error:
        # code of some architecture on sizes that nobody has tried; training begins with the same check
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        yield Finding("warn", "training", f"a tiny {config.model_type} cannot be tried here ({reason})")
    else:
        how = {"packed": "packed in rows, without padding", "padded": "in padded batches, which takes longer"}[reads]
        yield Finding("ok", "training", f"a {config.model_type} is trained on texts {how}")


def check_path(recipe: Recipe, rows: int, steps: int, layers: int) -> Iterator[Finding]:
    """Go the whole path with random weights: whether DPO starts from ln 2, and whether it fits if all was measured."""
    import torch

    from knowtuning.dryrun import CURES, dry_run

    stages, all_layers = dry_run(recipe, rows, steps, layers)
    names, first, right = ", ".join(stage.name for stage in stages), stages[-1].first_loss, math.log(2)
    yield Finding("ok", "path", f"every stage ran ({names}); adapters were saved and loaded")
    state = "ok" if abs(first - right) < 1e-3 else "warn"
    yield Finding(state, "DPO loss", f"{first:.5f} before the first step, where ln 2 = {right:.5f} is right")
    if not all_layers:
        return  # what all layers need is arithmetic, and among the findings of the machine
    most = max(stages, key=lambda stage: stage.peak)
    room = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else psutil.virtual_memory().total
    what = f"{most.peak / GB:.1f} of {room / GB:.1f} GB at most, in {most.name} (measured)"
    if recipe.machine.num_processes > 1:
        what += f"; tried in one process, while the recipe shares training among {recipe.machine.num_processes}"
    fits = most.peak <= room
    yield Finding("ok", "fits", what) if fits else Finding("fail", "fits", f"{what}. Cure: {CURES[most.name]}")


def check_endpoint(recipe: Recipe, teacher: str = "") -> Iterator[Finding]:
    """Whether the teacher answers, until when its model lives, what it understands, and what it costs."""
    model = teacher or recipe.teacher
    try:
        if not is_local(model) or os.environ.get("OPENAI_BASE_URL"):
            yield _listed(model)
        yield from _asked(model, recipe)
    except TeacherError as error:
        yield Finding("fail", "teacher", str(error))
        return
    if price := load_price(model):
        yield Finding("ok", "price", f"${price.input:g} in, ${price.output:g} out per million tokens ({price.date})")
    else:
        yield Finding("warn", "price", f"none known of {model}: no dollars and no cap, until data/prices.yaml has it")


def _listed(model: str) -> Finding:
    """What GET /v1/models says of the model, and until when it is served."""
    base_url = find_base_url(None)
    key = find_key(None, base_url)
    try:
        with OpenAI(base_url=base_url, api_key=key, max_retries=1, timeout=15) as client:
            models = {entry.id: entry for entry in client.models.list()}
    except (APIConnectionError, APIStatusError) as error:
        reason = " ".join(without_key(str(error), key).split())[:120]
        return Finding("warn", "model list", f"{base_url} has none to show ({reason})")
    if model not in models:
        known = ", ".join(sorted(models)[:5])
        return Finding("fail", "model", f"{model} is not among the {len(models)} models of {base_url} ({known}, …)")
    shutdown = getattr(models[model], "shutdown_date", None) or load_end(model)
    if not shutdown:
        return Finding("ok", "model", f"{model} is listed, without a date of shutdown")
    try:
        days = (date.fromisoformat(str(shutdown)[:10]) - date.today()).days
    except ValueError:
        return Finding("warn", "model", f"{model} will be shut down ({shutdown})")
    if days < 0:
        return Finding("fail", "model", f"{model} was shut down on {shutdown}: choose another")
    return Finding(
        "warn" if days <= SOON else "ok", "model", f"{model} will be shut down on {shutdown}, in {days} days"
    )


def _asked(model: str, recipe: Recipe) -> Iterator[Finding]:
    """One real call with the run's own client, in a folder of its own."""
    row = annotators.annotate(recipe.lab).train[0] if recipe.lab else PROBE
    with (
        tempfile.TemporaryDirectory() as folder,
        open_teacher(model, folder, settings=recipe.base, temperature=0.0, max_retries=1) as asked,
    ):
        started = time.perf_counter()
        [reply] = asked.map(EXTRACT, [("probe", {"question": row["question"], "answer": row["answer"]})])
        seconds, calls = time.perf_counter() - started, asked.counts["extract"]["calls"]
        features = asked.features
    if not features.proven:
        yield Finding("fail", "teacher", f"{model} answers, but nothing that can be read: try another model")
        return
    quality = "" if reply else ", though not with facts (it does not know this text)"
    yield Finding("ok", "teacher", f"{model} answered after {seconds:.1f} s and {calls:.0f} calls{quality}")
    weaker = features.structured != "json_schema"
    form = f"{features.structured}{' (weaker than json_schema: expect more unusable replies)' * weaker}"
    cap = features.cap or "nothing that is accepted: max_cost cannot hold"
    temperature = "accepted" if features.temperature else "refused, so never sent"
    what = f"structured by {form}; capped by {cap}; temperature {temperature}"
    yield Finding("ok" if features.cap and not weaker else "warn", "replies", what)

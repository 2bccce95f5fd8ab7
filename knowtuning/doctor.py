"""Before a run: does the endpoint answer, with which features, and is this machine large enough for the recipe?"""

from __future__ import annotations

import os
import shutil
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

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

PROBE = {"question": "What is the Vell Orrery?", "answer": "The Vell Orrery was built in 1671. It shows six planets."}
SOON = 60  # days
GB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `state` is "ok", "warn" (worth knowing) or "fail" (the run would not work)."""

    state: str
    subject: str
    what: str


def doctor(name: str, teacher: str = "") -> int:
    """Print all that a run of the recipe needs; asks the endpoint one small question (a paid call)."""
    recipe = get_recipe(name)
    findings = [*check_here(recipe), *check_endpoint(recipe, teacher)]
    show(findings)
    return conclude(findings)


def check_here(recipe: Recipe) -> list[Finding]:
    """Look at everything but the endpoint: packages, machine, base."""
    checks = (check_packages(), check_extras(recipe), check_machine(recipe), check_model(recipe), check_reading(recipe))
    return [finding for check in checks for finding in check]


def check_packages() -> Iterator[Finding]:
    """Installed versions against the lock."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    missing, other = [], []
    for name in ("torch", "transformers", "trl", "peft", "bitsandbytes", "openai", "evaluate", "papermill", "datasets"):
        try:
            if (found := version(name).split("+")[0]) != pins[name]:
                other.append(f"{name} {found} instead of {pins[name]}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding("fail", "packages", f"{', '.join(missing)} missing: pip install -c constraints.txt -e '.[all]'")
    elif other:
        yield Finding("warn", "packages", f"{'; '.join(other)}: numbers may differ from the published ones")
    else:
        yield Finding("ok", "packages", "as locked in constraints.txt")


def check_extras(recipe: Recipe) -> Iterator[Finding]:
    """Packages that only some recipes want."""
    if recipe.machine.liger and not find_spec("liger_kernel"):
        yield Finding("fail", "packages", f"recipe {recipe.name} wants liger_kernel: pip install -e '.[liger]'")


def check_machine(recipe: Recipe) -> Iterator[Finding]:
    """Memory, disk and GPU against what the recipe was measured to need, or needs by the shape of its base."""
    memory, disk = psutil.virtual_memory().available / GB, shutil.disk_usage(ROOT).free / GB
    for subject, free, needed in (("memory", memory, recipe.machine.memory_gb), ("disk", disk, recipe.machine.disk_gb)):
        state = "ok" if free >= needed else "fail"
        cure = "" if state == "ok" else ": free some, or take a smaller recipe"
        yield Finding(state, subject, f"{free:.1f} GB free, recipe {recipe.name} needs about {needed:g} GB{cure}")
    import torch

    if wants_gpu(recipe):
        yield check_gpu(recipe)
    elif torch.cuda.is_available():
        yield Finding("ok", "GPU", f"{_card(0)}, {torch.cuda.mem_get_info()[1] / GB:.0f} GB")
    else:
        yield Finding("ok", "GPU", f"none; recipe {recipe.name} runs on the CPU ({os.cpu_count()} cores)")


def wants_gpu(recipe: Recipe) -> bool:
    """Whether the base is one that no CPU gets through: any but the lab's."""
    return lab_of(recipe.base) is None


def check_gpu(recipe: Recipe) -> Finding:
    """The GPUs of this machine, their number and free memory, against what the shape of the base asks for."""
    import torch

    from knowtuning.training.memory import cards_with_room, config_of, cure, largest_need, small

    try:
        config = config_of(recipe.base)
        stage, needed = largest_need(recipe, config)
    except DataError as error:
        return Finding("warn", "GPU", f"what is needed cannot be told: {error}")
    count, here = recipe.machine.num_processes, torch.cuda.device_count()
    each = "one with" if count == 1 else f"{count} with each"
    needs = f"recipe {recipe.name} needs {each} about {needed / GB:.0f} GB, most of all for {stage} (arithmetic)"
    if not here and small(config):
        return Finding("warn", "GPU", f"none; recipe {recipe.name} runs on the CPU ({os.cpu_count()} cores), slowly")
    if here < count:
        return Finding("fail", "GPU", f"{here or 'none'} here; {needs}, such as {cards_with_room(needed)}")
    for number in range(count):
        free, total = torch.cuda.mem_get_info(number)
        if free < needed:
            room = f"{free / GB:.1f} of {total / GB:.1f} GB free on {_card(number)}"
            return Finding("fail", "GPU", f"{room}; {needs}: {cure(recipe, stage)}")
    if recipe.dtype == "bfloat16" and torch.cuda.get_device_capability()[0] < 8:
        return Finding("warn", "GPU", f"{_card(0)} has no bfloat16 of its own: expect it to be slow; {needs}")
    return Finding("ok", "GPU", f"{here} x {_card(0)}, {free / GB:.1f} GB free; {needs}")


def _card(number: int) -> str:
    import torch

    return torch.cuda.get_device_properties(number).name


def check_model(recipe: Recipe) -> Iterator[Finding]:
    """Whether the base is there, will be trained, or may be downloaded."""
    if not wants_gpu(recipe):
        path = runs_folder() / recipe.base / "base" / "model.safetensors"
        yield Finding("ok", "base model", "trained already" if path.exists() else "notebook 00 will train it")
    elif Path(recipe.base).is_dir():
        yield Finding("ok", "base model", f"folder {shown(Path(recipe.base))}")
    else:
        yield _on_the_hub(recipe.base)


def check_reading(recipe: Recipe) -> Iterator[Finding]:
    """How a base that is not the lab's reads several texts at once, tried on a tiny random one of its architecture."""
    from transformers import AutoModelForCausalLM

    from knowtuning.training.memory import config_of, tiny
    from knowtuning.training.models import new_adapter
    from knowtuning.training.packed import layout

    if lab_of(recipe.base):
        return
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
        said = {"packed": "packed in rows, without padding", "padded": "in padded batches, which takes longer"}[reads]
        yield Finding("ok", "training", f"a {config.model_type} is trained on texts {said}")


def _on_the_hub(base: str) -> Finding:
    """Whether the hub would give the base: it may be gated, as Llama-2 is, until its licence is accepted."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, HTTPError, RepositoryNotFoundError

    if isinstance(try_to_load_from_cache(base, "config.json"), str):
        return Finding("ok", "base model", f"{base} is in the hub's cache")
    try:
        HfApi(endpoint=os.environ.get("HF_ENDPOINT")).auth_check(base)
    except GatedRepoError:
        said = f"{base} is gated: accept its licence on its page of the hub, and set HF_TOKEN to a token of yours"
        return Finding("fail", "base model", said)
    except (RepositoryNotFoundError, HFValidationError):
        return Finding("fail", "base model", f"{base} is neither a folder nor known to the hub: correct `base`")
    except (HTTPError, OSError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        return Finding("warn", "base model", f"{base} must come from the hub, which cannot be asked now ({said})")
    return Finding("ok", "base model", f"{base} comes from the hub at the first use")


def check_endpoint(recipe: Recipe, teacher: str = "") -> Iterator[Finding]:
    """Whether the teacher answers, until when its model lives, what it understands, and what it costs."""
    model = teacher or recipe.teacher
    local = is_local(model) and not os.environ.get("OPENAI_BASE_URL")
    try:
        if not local:
            yield from _listed(model)
        yield from _asked(model, recipe)
    except TeacherError as error:
        yield Finding("fail", "teacher", str(error))
        return
    price = load_price(model)
    if price is None:
        yield Finding("warn", "price", f"none known of {model}: no dollars and no cap, until data/prices.yaml has it")
    else:
        yield Finding("ok", "price", f"${price.input:g} in, ${price.output:g} out per million tokens ({price.date})")


def _listed(model: str) -> Iterator[Finding]:
    """What GET /v1/models says of the model."""
    base_url = find_base_url(None)
    key = find_key(None, base_url)
    try:
        with OpenAI(base_url=base_url, api_key=key, max_retries=1, timeout=15) as client:
            models = {entry.id: entry for entry in client.models.list()}
    except (APIConnectionError, APIStatusError) as error:
        said = " ".join(without_key(str(error), key).split())[:120]
        yield Finding("warn", "model list", f"{base_url} has none to show ({said})")
        return
    if model not in models:
        known = ", ".join(sorted(models)[:5])
        yield Finding("fail", "model", f"{model} is not among the {len(models)} models of {base_url} ({known}, …)")
        return
    yield _lifetime(model, getattr(models[model], "shutdown_date", None) or load_end(model))


def _lifetime(model: str, shutdown: str | None) -> Finding:
    if not shutdown:
        return Finding("ok", "model", f"{model} is listed, without a date of shutdown")
    try:
        days = (date.fromisoformat(str(shutdown)[:10]) - date.today()).days
    except ValueError:
        return Finding("warn", "model", f"{model} will be shut down ({shutdown})")
    if days < 0:
        return Finding("fail", "model", f"{model} was shut down on {shutdown}: choose another")
    state = "warn" if days <= SOON else "ok"
    return Finding(state, "model", f"{model} will be shut down on {shutdown}, in {days} days")


def _asked(model: str, recipe: Recipe) -> Iterator[Finding]:
    """One real call with the run's own client, in a folder of its own."""
    row = annotators.annotate(recipe.lab).train[0] if recipe.lab else PROBE
    with (
        tempfile.TemporaryDirectory() as folder,
        open_teacher(model, folder, settings=recipe.base, temperature=0.0, max_retries=1) as asked,
    ):
        started = time.perf_counter()
        [reply] = asked.map(EXTRACT, [("probe", {"question": row["question"], "answer": row["answer"]})])
        seconds = time.perf_counter() - started
        features, counts = asked.features, asked.counts["extract"]
    if not features.proven:
        yield Finding("fail", "teacher", f"{model} answers, but nothing that can be read: try another model")
        return
    quality = "" if reply else ", though not with facts (it does not know this text)"
    yield Finding("ok", "teacher", f"{model} answered after {seconds:.1f} s and {counts['calls']:.0f} calls{quality}")
    weaker = "" if features.structured == "json_schema" else " (weaker than json_schema: expect more unusable replies)"
    yield Finding("ok" if not weaker else "warn", "replies", f"structured by {features.structured}{weaker}")
    yield Finding(
        "ok" if features.cap else "warn", "token cap", features.cap or "none is accepted: max_cost cannot hold"
    )
    yield Finding("ok", "temperature", "accepted" if features.temperature else "refused, so never sent")


def show(findings: Iterable[Finding]) -> None:
    """Print findings on 80 columns."""
    for finding in findings:
        lines = textwrap.wrap(finding.what, 80 - 20) or [""]
        print(f"{finding.state:<5} {finding.subject:<13} " + ("\n" + " " * 20).join(lines))


def conclude(findings: list[Finding]) -> int:
    """Print what they come to; the exit code is 1 where one of them is a failure."""
    failures = sum(finding.state == "fail" for finding in findings)
    print("Ready." if not failures else f"{failures} thing{'s' * (failures > 1)} to mend before a run.")
    return 1 if failures else 0

"""Before a run: does the endpoint answer, with which features, and is this machine large enough for the profile?"""

from __future__ import annotations

import os
import shutil
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from openai import APIConnectionError, APIStatusError, OpenAI

from knowtuning.artifacts import ROOT, runs_folder, shown
from knowtuning.lab import annotators
from knowtuning.profiles import Profile, get_profile
from knowtuning.teacher.endpoint import find_base_url, find_key, without_key
from knowtuning.teacher.errors import TeacherError
from knowtuning.teacher.prices import load_end, load_price
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


def doctor(profile: str, teacher: str = "") -> list[Finding]:
    """Look at everything that a run of the profile needs; asks the endpoint one small question (a paid call)."""
    known = get_profile(profile)
    return [*check_packages(), *check_machine(known), *check_model(known), *check_endpoint(known, teacher)]


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


def check_machine(profile: Profile) -> Iterator[Finding]:
    """Memory, disk and accelerator against what the profile was measured to need."""
    memory, disk = psutil.virtual_memory().available / GB, shutil.disk_usage(ROOT).free / GB
    for subject, free, needed in (("memory", memory, profile.memory_gb), ("disk", disk, profile.disk_gb)):
        state = "ok" if free >= needed else "fail"
        cure = "" if state == "ok" else ": free some, or take a smaller profile"
        yield Finding(state, subject, f"{free:.1f} GB free, profile {profile.name} needs about {needed:g} GB{cure}")
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        yield Finding("ok", "GPU", f"{properties.name}, {properties.total_memory / GB:.0f} GB")
    else:
        yield Finding("ok", "GPU", f"none; profile {profile.name} runs on the CPU ({os.cpu_count()} cores)")


def check_model(profile: Profile) -> Iterator[Finding]:
    """Whether the base is there, or will be trained."""
    if profile.lab is not None or profile.base in ("lab", "smoke"):
        path = runs_folder() / profile.base / "base" / "model.safetensors"
        yield Finding("ok", "base model", "trained already" if path.exists() else "notebook 00 will train it")
    elif Path(profile.base).is_dir():
        yield Finding("ok", "base model", f"folder {shown(Path(profile.base))}")
    else:
        yield Finding("warn", "base model", f"{profile.base} comes from the hub at the first use; not looked at here")


def check_endpoint(profile: Profile, teacher: str = "") -> Iterator[Finding]:
    """Whether the teacher answers, until when its model lives, what it understands, and what it costs."""
    model = teacher or profile.teacher
    local = is_local(model) and not os.environ.get("OPENAI_BASE_URL")
    try:
        if not local:
            yield from _listed(model)
        yield from _asked(model, profile)
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


def _asked(model: str, profile: Profile) -> Iterator[Finding]:
    """One real call with the run's own client, in a folder of its own."""
    row = annotators.annotate(profile.lab).train[0] if profile.lab else PROBE
    with (
        tempfile.TemporaryDirectory() as folder,
        open_teacher(model, folder, settings=profile.base, temperature=0.0, max_retries=1) as asked,
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


def print_findings(findings: list[Finding]) -> int:
    """Print findings on 80 columns; the exit code is 1 where one of them is a failure."""
    for finding in findings:
        lines = textwrap.wrap(finding.what, 80 - 20) or [""]
        print(f"{finding.state:<5} {finding.subject:<13} " + ("\n" + " " * 20).join(lines))
    failures = sum(finding.state == "fail" for finding in findings)
    print("Ready." if not failures else f"{failures} thing{'s' * (failures > 1)} to mend before a run.")
    return 1 if failures else 0

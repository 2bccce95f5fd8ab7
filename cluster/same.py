"""Are the artefacts of two runs the same, byte for byte?"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

KINDS = (".json", ".jsonl", ".safetensors", ".sqlite")
# what a moment leaves behind: how far a stage was, executed notebooks with their times
PASSING = ("progress", "notebooks")
# fields of a manifest, of an account, of a cached reply
CLOCK = ("seconds", "peak_memory_mb", "time", "samples per second", "pairs per second")


def artefacts(runs: Path) -> dict[str, Path]:
    """The files of a runs folder that the method makes, by their path inside it."""
    found = {str(path.relative_to(runs)): path for path in sorted(runs.rglob("*")) if path.suffix in KINDS}
    return {name: path for name, path in found.items() if not set(PASSING).intersection(Path(name).parts)}


def differences(one: Path, other: Path) -> tuple[int, list[str]]:
    """Number of artefacts of two runs folders, and a line for each that is missing or not the same.

    Bytes are compared, with two exceptions. Manifests and accounts are compared without times, speed and memory. The
    teacher's record holds replies in the order in which they came in: they are compared as a set, without their times.
    """
    ours, theirs = artefacts(one), artefacts(other)
    lines = [f"{name} is only in {one.name}" for name in ours.keys() - theirs.keys()]
    lines += [f"{name} is only in {other.name}" for name in theirs.keys() - ours.keys()]
    lines += [f"{name} differs" for name in ours.keys() & theirs.keys() if content(ours[name]) != content(theirs[name])]
    return len(ours.keys() | theirs.keys()), sorted(lines)


def content(path: Path) -> Any:
    """What is compared of a file."""
    if path.suffix == ".sqlite":
        with closing(sqlite3.connect(path)) as record:
            return set(record.execute("select key, task, model, raw, reason, prompt_tokens, batch, shard from reply"))
    if path.suffix == ".json" and path.stat().st_size < 2**20:
        value = json.loads(path.read_text(encoding="utf-8"))
        if (known := timeless(value)) != value:
            return known
    return path.read_bytes()


def timeless(value: Any) -> Any:
    """A JSON value without the fields that a clock or a memory gauge wrote."""
    if isinstance(value, dict):
        return {name: timeless(inner) for name, inner in value.items() if name not in CLOCK}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value

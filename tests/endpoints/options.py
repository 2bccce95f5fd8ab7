"""What an endpoint can be told to be: one dataclass, whose fields are command-line options too."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from endpoints.dialects import DIALECTS
from endpoints.faults import KINDS


def _option(default: Any, about: str, read: Any = float, **more: Any) -> Any:
    return field(default=default, metadata={"help": about, "type": read, **more})


def _kinds(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


@dataclass(frozen=True)
class Options:
    """How an endpoint behaves; the defaults are one without limits, delays or faults. Times are seconds."""

    delay: float = _option(0.0, "seconds before each reply")
    log: Path | None = _option(None, "append a JSON line per request served to this file", Path)
    dialect: str = _option("openai", "; ".join(f"{name} {d.about}" for name, d in DIALECTS.items()), str)
    shutdown_date: str | None = _option(None, "the models' announced end, YYYY-MM-DD", str)
    requests_per_minute: int | None = _option(None, "beyond: HTTP 429 with the time to wait", int)
    tokens_per_minute: int | None = _option(None, "the same for tokens, asked and answered", int)
    burst: float = _option(60.0, "seconds of a limit usable at once")
    capacity: int | None = _option(None, "beyond so many calls at once: HTTP 429, and no time given", int)
    faults: float | None = _option(None, "share of requests that meet one; 0: only inputs with POISON")
    fault_seed: int = _option(0, "draws other faults", int)
    fault_kinds: tuple[str, ...] = _option(KINDS, f"some of {','.join(KINDS)}", _kinds)
    stall: float = _option(120.0, "seconds that a stall lasts")
    batch_seconds: float = _option(1.0, "time that a batch takes")
    batch_expire: float = _option(0.0, "batches expire with this share of their requests undone")
    batch_invalid_first: bool = _option(False, "1: the first batch fails its validation", lambda text: text == "1")

    def __post_init__(self) -> None:
        for what, names, known in (("dialect", [self.dialect], DIALECTS), ("fault kind", self.fault_kinds, KINDS)):
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"there is no {what} {unknown[0]!r}: use {', '.join(known)}.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser one option per field."""
    for each in fields(Options):
        parser.add_argument("--" + each.name.replace("_", "-"), default=each.default, metavar="X", **each.metadata)


def from_arguments(chosen: argparse.Namespace) -> Options:
    """The options in a namespace that `add_arguments` filled."""
    return Options(**{each.name: getattr(chosen, each.name) for each in fields(Options)})

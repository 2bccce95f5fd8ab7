"""What a local server can be told to be: one dataclass, and the same as command-line options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

from knowtuning.teacher.serving.dialects import DIALECTS
from knowtuning.teacher.serving.faults import FAULT_KINDS


@dataclass(frozen=True)
class ServerOptions:
    """How a local server behaves; the defaults are an endpoint without limits, delays or faults.

    Times are seconds, shares are 0 to 1, None switches off. `add_arguments` says what each of them does. A value that
    means nothing raises `ValueError`.
    """

    delay: float = 0.0
    dialect: str = "openai"
    shutdown_date: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    burst: float = 60.0
    capacity: int | None = None
    faults: float | None = None
    fault_seed: int = 0
    fault_kinds: tuple[str, ...] = FAULT_KINDS
    stall: float = 120.0
    log: Path | None = None
    state: Path | None = None
    batch_seconds: float = 1.0
    batch_expire: float = 0.0
    batch_invalid_first: bool = False

    def __post_init__(self) -> None:
        _check_in("dialect", [self.dialect], DIALECTS)
        _check_in("fault kind", self.fault_kinds or [""], FAULT_KINDS)
        for name in ("faults", "batch_expire"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: use a share from 0 to 1.")
        for name in ("delay", "stall", "batch_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}: use seconds, 0 or more.")
        for name in ("requests_per_minute", "tokens_per_minute", "capacity", "burst"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} is {value}: use a number above 0.")
        if self.shutdown_date is not None:
            _check_date(self.shutdown_date)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser one option per field of `ServerOptions`, grouped and explained."""
    defaults = ServerOptions()
    parser.add_argument("--delay", type=float, default=defaults.delay, help="seconds before each reply (default: 0)")
    parser.add_argument("--log", type=Path, help="append a JSON line per request served to this file")
    parser.add_argument("--state", type=Path, help="keep files and batches in this folder, for the next start")

    endpoint = parser.add_argument_group("kind of endpoint")
    dialects = "; ".join(f"{name} {dialect.about}" for name, dialect in DIALECTS.items())
    endpoint.add_argument("--dialect", choices=DIALECTS, default=defaults.dialect, metavar="NAME", help=dialects)
    endpoint.add_argument("--shutdown-date", metavar="YYYY-MM-DD", help="the models' announced end")

    limits = parser.add_argument_group("limits (default: none)")
    limits.add_argument("--requests-per-minute", type=int, metavar="N", help="beyond: HTTP 429 with the time to wait")
    limits.add_argument("--tokens-per-minute", type=int, metavar="N", help="the same for tokens, asked and answered")
    limits.add_argument(
        "--burst",
        type=float,
        default=defaults.burst,
        metavar="S",
        help="seconds of a limit usable at once (default: 60)",
    )
    limits.add_argument("--capacity", type=int, metavar="N", help="beyond N calls at once: HTTP 429, and no time given")

    faults = parser.add_argument_group("faults (default: none)")
    faults.add_argument(
        "--faults", type=float, metavar="SHARE", help="share of requests that meet one; 0: only inputs with POISON"
    )
    faults.add_argument("--fault-seed", type=int, default=defaults.fault_seed, metavar="N", help="(default: 0)")
    faults.add_argument(
        "--fault-kinds",
        type=_kinds,
        default=defaults.fault_kinds,
        metavar="A,B",
        help=f"some of {', '.join(FAULT_KINDS)} (default: all)",
    )
    faults.add_argument(
        "--stall", type=float, default=defaults.stall, metavar="S", help="seconds that a stall lasts (default: 120)"
    )

    batch = parser.add_argument_group("Batch API")
    batch.add_argument(
        "--batch-seconds",
        type=float,
        default=defaults.batch_seconds,
        metavar="S",
        help="time a batch takes (default: 1)",
    )
    batch.add_argument(
        "--batch-expire",
        type=float,
        default=defaults.batch_expire,
        metavar="SHARE",
        help="batches expire with this share of their requests undone (default: 0)",
    )
    batch.add_argument("--batch-invalid-first", action="store_true", help="the first batch fails its validation")


def from_arguments(chosen: argparse.Namespace) -> ServerOptions:
    """The options in a namespace that `add_arguments` filled; raises `ValueError` as `ServerOptions` does."""
    return ServerOptions(**{field.name: getattr(chosen, field.name) for field in fields(ServerOptions)})


def to_arguments(options: ServerOptions) -> list[str]:
    """The command line of some options, for a server in another folder.

    >>> to_arguments(ServerOptions(delay=0.1, fault_kinds=("storm", "html"), batch_invalid_first=True))
    ['--delay', '0.1', '--fault-kinds', 'storm,html', '--batch-invalid-first']
    """
    words = []
    for field in fields(ServerOptions):
        value, flag = getattr(options, field.name), "--" + field.name.replace("_", "-")
        if value == field.default:
            continue
        if value is True:
            words += [flag]
        elif isinstance(value, tuple):
            words += [flag, ",".join(value)]
        else:
            words += [flag, str(Path(value).absolute() if isinstance(value, Path) else value)]
    return words


def _kinds(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _check_in(what: str, names, known) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"there is no {what} {unknown[0]!r}: use {', '.join(known)}.")


def _check_date(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"shutdown_date is {text!r}: write it like 2027-01-14.") from None

"""Ways of doing the same work, timed in turn in one process, so that a busy moment of the machine meets them all."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from knowtuning.files import DataError


def in_turn(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def rate(count: int, seconds: list[float]) -> dict[str, float]:
    """Spread of things done per second."""
    return spread([count / one for one in seconds])


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Spread of how many times as fast the second way was, round by round."""
    return spread([one / other for one, other in zip(slow, fast, strict=True)])


def ended(main: Callable[[], int | None]) -> int:
    """The exit code of a benchmark; a run that is missing or cannot be used is one sentence, and no traceback."""
    try:
        return main() or 0
    except DataError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 1

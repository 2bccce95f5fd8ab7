"""Progress of long work: a bar for a person, a file for the runner, and nothing in a notebook's outputs."""

from __future__ import annotations

import html
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE_VARIABLE = "KNOWTUNING_PROGRESS"
EVERY = 0.5  # seconds between two pictures of a stage
WINDOW = 30.0  # seconds that the rate is measured over
CURVES = ("loss", "margin")  # numbers that JupyterLab draws
POINTS = 300  # of a curve, at most
NAME, BAR = 26, 12  # columns of the terminal, for the name of a stage at most and for its bar
Tick = Callable[..., None]
State = dict[str, Any]


@contextmanager
def progress(stage: str, total: float, unit: str = "rows") -> Iterator[Tick]:
    """Show how far a stage is; yields `tick(done, note="", **numbers)`, which may be called as often as one likes.

    Under `knowtuning execute` the state goes to the file named by KNOWTUNING_PROGRESS, which the runner follows, so
    that an executed notebook holds no residue of a bar. By hand, a bar is drawn on a terminal, or in JupyterLab with
    the curves of `loss` and `margin`; it goes away at the end, and with an error too.

    Args:
        stage: what is under way.
        total: how much there is to do; 1 where it is told in shares.
        unit: what is counted ("rows", "steps").

    Example:
        with progress("training", total=150, unit="steps") as tick:
            tick(10, loss=1.23)
    """
    if path := os.environ.get(FILE_VARIABLE):
        yield file_tick(Path(path), stage, total, unit)
    elif _in_jupyter():
        with _shown_in_jupyter(stage, total, unit) as tick:
            yield tick
    elif sys.stderr.isatty():
        with _shown_on_terminal(stage, total, unit) as tick:
            yield tick
    else:
        yield lambda done, note="", **numbers: None


def of_calls(tick: Tick) -> Callable[..., None]:
    """Turn a tick into what `Teacher.map` reports to: rows done, in all, in quarantine, and the cost so far."""
    return lambda done, total, failed, cost="": tick(done, cost=cost, failed=failed)


def file_tick(path: Path, stage: str, total: float, unit: str = "rows") -> Tick:
    """A tick that keeps the state of a stage in a file, for the runner to follow."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(state: State) -> None:
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(state), encoding="utf-8")
        os.replace(partial, path)

    return _tick(stage, total, unit, write)


def details(state: State) -> list[str]:
    """What a state says beyond how far it is: time left, its numbers, its speed.

    >>> details({"unit": "rows", "rate": 12.34, "left": 75.0, "numbers": {"cost": 0.5, "failed": 2}})
    ['1:15 left', '$0.50', '2 failed', '12.3 rows/s']
    """
    words = []
    if state.get("left") is not None:
        words.append(f"{_clock(state['left'])} left")
    for name, value in state.get("numbers", {}).items():
        if name == "cost":
            words.append(f"${value:,.2f}" if isinstance(value, int | float) else value)
        elif name == "failed":
            words.append(f"{value:,} failed" if value else "")
        else:
            words.append(f"{name} {value:.2f}")
    if state.get("rate") is not None:
        words.append(f"{state['rate']:.{1 if state['rate'] < 100 else 0}f} {state['unit']}/s")
    return list(filter(None, [*words, state.get("note", "")]))


def _clock(seconds: float) -> str:
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours}:{minutes:02d}:{int(seconds) % 60:02d}" if hours else f"{minutes}:{int(seconds) % 60:02d}"


def _tick(stage: str, total: float, unit: str, show: Callable[[State], None]) -> Tick:
    """A tick that hands the state of a stage to `show`: at once, twice a second at most, and at the end."""
    seen = deque([(time.monotonic(), 0.0)])
    last = -EVERY

    def tick(done: float, note: str = "", **numbers: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < EVERY:
            return
        last = now
        seen.append((now, done))
        while len(seen) > 2 and now - seen[1][0] > WINDOW:
            seen.popleft()
        state = {"stage": stage, "unit": unit, "done": done, "total": total, "note": note, "numbers": numbers}
        show(state | _speed(seen, total))

    tick(0)
    return tick


def _speed(seen: deque[tuple[float, float]], total: float) -> State:
    """Units per second (None where shares are told) and seconds left; nothing while there is nothing to judge by."""
    (start, before), (now, done) = seen[0], seen[-1]
    if done <= before or now <= start:
        return {}
    rate = (done - before) / (now - start)
    return {"rate": None if total == 1 else rate, "left": (total - done) / rate}


def _share(state: State) -> float:
    return min(1.0, state["done"] / state["total"]) if state["total"] else 1.0


def _far(state: State) -> str:
    if state["total"] == 1:
        return f"{_share(state):.0%}"
    return f"{state['done']:,.0f}/{state['total']:,.0f}"


@contextmanager
def _shown_on_terminal(stage: str, total: float, unit: str) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    def text(field: str, width: int) -> TextColumn:
        column = Column(width=width, no_wrap=True, overflow="ellipsis")
        return TextColumn(f"{{task.{field}}}", markup=False, table_column=column)

    console = Console(stderr=True)
    name, far = min(len(stage), NAME), len(_far({"done": total, "total": total}))
    rest = max(1, console.width - name - BAR - far - 4)  # a blank stands after each column
    columns = text("description", name), BarColumn(BAR), text("fields[far]", far), text("fields[said]", rest)
    with Progress(*columns, console=console, transient=True, refresh_per_second=1 / EVERY) as bar:
        task = bar.add_task(stage, total=1.0, far="", said="")
        yield _tick(
            stage,
            total,
            unit,
            lambda state: bar.update(
                task, completed=_share(state), far=_far(state), said=" · ".join(details(state)), refresh=True
            ),
        )


def _in_jupyter() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


@contextmanager
def _shown_in_jupyter(stage: str, total: float, unit: str) -> Iterator[Tick]:
    from IPython.display import HTML, display

    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in CURVES}
    handle = display(HTML(""), display_id=True)
    picture = _tick(stage, total, unit, lambda state: handle.update(HTML(_picture(state, curves))))

    def tick(done: float, note: str = "", **numbers: Any) -> None:
        for name in CURVES:
            if name in numbers:
                curves[name].append((done, numbers[name]))
        picture(done, note, **numbers)

    try:
        yield tick
    finally:
        handle.update(HTML(""))


def _picture(state: State, curves: dict[str, list[tuple[float, float]]]) -> str:
    """A stage as HTML: its bar, what it says, and its curves, in the colours of the page around it."""
    words = " · ".join([_far(state), *details(state)])
    drawn = "".join(_curve(name, points, state["total"]) for name, points in curves.items() if len(points) > 1)
    return (
        f'<div style="font:13px sans-serif"><div>{html.escape(state["stage"])} '
        f'<progress value="{_share(state):.4f}" style="width:12em"></progress> {html.escape(words)}</div>{drawn}</div>'
    )


def _curve(name: str, points: list[tuple[float, float]], total: float) -> str:
    """One number over the whole of the way, as inline SVG."""
    points = points[:: -(-len(points) // POINTS)]
    low, high = min(value for _, value in points), max(value for _, value in points)
    height = (high - low) or 1.0
    line = " ".join(f"{60 + 290 * x / total:.1f},{92 - 80 * (y - low) / height:.1f}" for x, y in points)
    return (
        f'<svg role="img" aria-label="{name} so far, from {low:.2f} to {high:.2f}" width="360" height="112" '
        'fill="currentColor" font-size="11" text-anchor="end">'
        f'<text x="54" y="16">{high:.2f}</text><text x="54" y="96">{low:.2f}</text><text x="54" y="56">{name}</text>'
        f'<text x="350" y="110">step {total:,.0f}</text><path d="M60 8V96H352" fill="none" stroke="currentColor" '
        f'opacity="0.4"/><polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )

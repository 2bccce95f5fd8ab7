"""Progress of long work: tqdm's bar for a person, a file for the runner, and nothing in a notebook's outputs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

FILE_VARIABLE = "KNOWTUNING_PROGRESS"
EVERY = 0.5  # seconds between two pictures of a stage
FORM = "{desc} {n_fmt}/{total_fmt} |{bar:10}| {remaining} left{postfix}, {rate_fmt}"
SHARES = "{desc} {percentage:.0f}% |{bar:10}| {remaining} left{postfix}"
NAME = 30  # columns of a bar for the name of a stage
Tick = Callable[..., None]


@contextmanager
def progress(stage: str, total: float, unit: str = "rows") -> Iterator[Tick]:
    """Show how far a stage is; yields `tick(done, note="", **numbers)`, which may be called as often as one likes.

    Under `knowtuning execute` the state goes to the file named by KNOWTUNING_PROGRESS, which the runner follows, so
    that an executed notebook holds no residue of a bar. By hand, a bar is drawn on a terminal or in JupyterLab; it
    goes away at the end, and with an error too.

    Args:
        stage: what is under way.
        total: how much there is to do; 1 where it is told in shares.
        unit: what is counted ("rows", "steps").

    Example:
        with progress("training", total=150, unit="steps") as tick:
            tick(10, loss=1.23)
    """
    look = {"bar_format": SHARES if total == 1 else FORM, "dynamic_ncols": True, "leave": False}
    kind, look["disable"] = _kind()
    name = stage if kind is _FileBar or len(stage) <= NAME else f"{stage[: NAME - 1]}…"
    with kind(desc=name, total=total, unit=f" {unit}", mininterval=EVERY, miniters=0, **look) as bar:

        def tick(done: float, note: str = "", **numbers: Any) -> None:
            bar.numbers = numbers
            bar.set_postfix_str(", ".join(filter(None, [*words(numbers), note])), refresh=False)
            bar.update(done - bar.n)
            if done >= total:
                bar.refresh()

        yield tick


def of_calls(tick: Tick) -> Callable[..., None]:
    """Turn a tick into what `Teacher.map` reports to: rows done, in all, in quarantine, and the cost so far."""
    return lambda done, total, failed, cost="": tick(done, cost=cost, failed=failed)


def words(numbers: dict[str, Any]) -> list[str]:
    """The numbers of a state as they are shown.

    >>> words({"cost": 0.5, "failed": 2, "loss": 1.234})
    ['$0.50', '2 failed', 'loss 1.23']
    """
    shown = []
    for name, value in numbers.items():
        if name == "cost":
            shown.append(f"${value:,.2f}" if isinstance(value, int | float) else value)
        elif name == "failed":
            shown.append(f"{value:,} failed" if value else "")
        else:
            shown.append(f"{name} {value:.2f}")
    return [word for word in shown if word]


class _FileBar(tqdm):
    """A bar that writes its state into a file, in place of drawing itself."""

    numbers: dict[str, Any] = {}

    def display(self, *arguments: Any, **options: Any) -> None:
        state = self.format_dict
        done, rate = state["n"], state["rate"] or (state["n"] / state["elapsed"] if state["elapsed"] else 0)
        told = {"stage": self.desc, "unit": self.unit.strip(), "done": done, "total": self.total}
        told |= {"rate": rate or None, "left": (self.total - done) / rate if rate else None, "numbers": self.numbers}
        path = Path(os.environ[FILE_VARIABLE])
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(told | {"said": self.postfix or ""}), encoding="utf-8")
        os.replace(partial, path)


def _kind() -> tuple[type[tqdm], bool | None]:
    """The bar for this place, and whether it is not drawn; None: where nobody looks."""
    if FILE_VARIABLE in os.environ:
        return _FileBar, False
    if "IPython" in sys.modules:
        from IPython import get_ipython

        if getattr(get_ipython(), "kernel", None) is not None:
            from tqdm.notebook import tqdm as widget

            return widget, False
    return tqdm, None

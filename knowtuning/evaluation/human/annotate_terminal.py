"""`knowtuning annotate`: a blind sheet in the terminal, answered by single keys, or by lines where input is piped."""

from __future__ import annotations

import io
import os
import select
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from knowtuning.evaluation.human.annotation import MEANING, Annotation, visible_item
from knowtuning.files import shown

KEYS = {"1": "left", "2": "right", "0": "tie", "t": "tie"}
WIDTH = 80
HELP = "\n".join(
    [
        *(f"{aspect}: {meaning}" for aspect, meaning in MEANING.items()),
        "1 left answer, 2 right answer, 0 or t tie, b back to the choice before, q quit: every choice is saved.",
    ]
)


def annotate(sheet: Path, annotator: str, out: Path | None = None) -> int:
    """Ask for all open choices of a sheet, until the last one is made or the annotator quits. Returns 0."""
    session = Annotation(sheet, annotator, out)
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode still shows every answer
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False, emoji=False)
    with _keys() as (read, forget):
        _ask_all(session, console, read, forget)
    place = shown(session.out.resolve())
    farewell = f"All {session.total} choices are in {place}. Thank you."
    if not session.done:
        again = f"knowtuning annotate {shlex.quote(str(sheet))} --as {session.annotator}"
        farewell = f"{session.made} of {session.total} choices are in {place}. Go on with: {again}"
    console.print(Text(farewell), soft_wrap=True)
    return 0


def item_view(session: Annotation) -> RenderableType:
    """The item as an annotator sees it: question, reference where there is one, both answers side by side."""
    item = visible_item(session.item)
    answers = Table(expand=True)
    answers.add_column("1 · left", ratio=1)
    answers.add_column("2 · right", ratio=1)
    answers.add_row(Text(item["left"]), Text(item["right"]))
    above = [
        Text(f"{name.capitalize()}  ", style="bold") + Text(item[name], style="not bold")
        for name in ("question", "reference")
        if name in item
    ]
    return Group(Rule(session.progress), *above, answers)


def item_text(session: Annotation, width: int = WIDTH) -> str:
    """The same as plain text, for a page that no annotator works on."""
    page = Console(file=io.StringIO(), width=width, force_jupyter=False, force_terminal=False, color_system=None)
    page.print(item_view(session))
    return page.file.getvalue()


def _ask_all(session: Annotation, console: Console, read: Callable[[], str], forget: Callable[[], None]) -> None:
    last = None
    while not session.done:
        if session.item["item"] != last:
            last = session.item["item"]
            forget()
            if console.is_terminal:
                console.clear()
            console.print(item_view(session))
        now = session.chosen(session.aspect)
        aspect = f"{session.aspect} (now: {now})" if now else session.aspect
        console.print(Text(f"{aspect}: 1 left, 2 right, 0 tie, b back, q quit, ? help > "), end="")
        key = read()
        console.print(Text(KEYS.get(key, "")))
        if key == "q":
            return
        if key in KEYS:
            session.choose(session.aspect, KEYS[key])
        elif key == "b":
            session.back()
        else:
            console.print(Text(HELP if key == "?" else "Press one of 1, 2, 0, t, b, q or ?."))


@contextmanager
def _keys() -> Iterator[tuple[Callable[[], str], Callable[[], None]]]:
    """What waits for a key, "q" where input ends, and what drops those typed ahead for an item that is not yet shown.

    Single keys of a terminal, which is put back as it was; lines where input is no terminal.
    """
    if not sys.stdin.isatty():
        yield lambda: line.strip().lower() if (line := sys.stdin.readline()) else "q", lambda: None
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield lambda: _key(terminal), lambda: termios.tcflush(terminal, termios.TCIFLUSH)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _key(terminal: int) -> str:
    sys.stdout.flush()
    key = os.read(terminal, 1)
    if key == b"\x1b":  # an arrow or function key: its other bytes are no choices
        while select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 64)
    return "q" if key in (b"", b"\x04") else key.decode("ascii", "replace").lower()

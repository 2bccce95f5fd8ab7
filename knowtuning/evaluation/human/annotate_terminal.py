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
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from knowtuning.annotate import MEANING, Annotation, visible_item
from knowtuning.files import shown
from knowtuning.knowledge.aspects import ASPECTS

KEYS = {"1": "left", "2": "right", "0": "tie", "t": "tie"}
WIDTH = 80


class Keys(NamedTuple):
    """`read` waits for a key, "q" where input ends; `forget` drops what was typed ahead, for an item not yet shown."""

    read: Callable[[], str]
    forget: Callable[[], None]


def annotate(sheet: Path, annotator: str, out: Path | None = None) -> int:
    """Ask for all open choices of a sheet, until the last one is made or the annotator quits. Returns 0."""
    session = Annotation(sheet, annotator, out)
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode still shows every answer
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False, emoji=False)
    with _keys() as keys:
        _ask_all(session, console, keys)
    console.print(Text(_farewell(session, sheet)), soft_wrap=True)
    return 0


def item_view(session: Annotation) -> RenderableType:
    """The item as an annotator sees it: question, reference where there is one, both answers side by side."""
    item = visible_item(session.item)
    answers = Table(expand=True)
    answers.add_column("1 · left", ratio=1)
    answers.add_column("2 · right", ratio=1)
    answers.add_row(Text(item["left"]), Text(item["right"]))
    parts: list[RenderableType] = [
        Rule(f"item {session.number} of {len(session.items)} · {session.made} of {session.total} choices made"),
        Text("Question  ", style="bold") + Text(item["question"], style="not bold"),
    ]
    if "reference" in item:
        parts.append(Text("Reference  ", style="bold") + Text(item["reference"], style="not bold"))
    return Group(*parts, answers)


def item_text(session: Annotation, width: int = WIDTH) -> str:
    """The same as plain text, for a page that no annotator works on."""
    page = io.StringIO()
    Console(file=page, width=width, force_jupyter=False, force_terminal=False, color_system=None).print(
        item_view(session)
    )
    return page.getvalue()


def help_text() -> str:
    """What the aspects and the keys mean."""
    lines = [f"{aspect}: {MEANING[aspect]}" for aspect in ASPECTS]
    lines.append(
        "1 left answer, 2 right answer, 0 or t tie, b back to the choice before, q quit: every choice is saved."
    )
    return "\n".join(lines)


def _ask_all(session: Annotation, console: Console, keys: Keys) -> None:
    last = None
    while not session.done:
        if session.item["item"] != last:
            last = session.item["item"]
            keys.forget()
            if console.is_terminal:
                console.clear()
            console.print(item_view(session))
        now = session.chosen(session.aspect)
        said = f" (now: {now})" if now else ""
        console.print(Text(f"{session.aspect}{said}: 1 left, 2 right, 0 tie, b back, q quit, ? help > "), end="")
        key = keys.read()
        console.print(Text(KEYS.get(key, "")))
        if key == "q":
            return
        if key in KEYS:
            session.choose(session.aspect, KEYS[key])
        elif key == "b":
            session.back()
        elif key == "?":
            console.print(Text(help_text()))
        else:
            console.print(Text("Press one of 1, 2, 0, t, b, q or ?."))


def _farewell(session: Annotation, sheet: Path) -> str:
    place = shown(session.out.resolve())
    if session.done:
        return f"All {session.total} choices are in {place}. Thank you."
    again = f"knowtuning annotate {shlex.quote(str(sheet))} --as {session.annotator}"
    return f"{session.made} of {session.total} choices are in {place}. Go on with: {again}"


@contextmanager
def _keys() -> Iterator[Keys]:
    """Single keys of a terminal, which is put back as it was; lines where input is no terminal."""
    if not sys.stdin.isatty():
        yield Keys(lambda: line.strip().lower() if (line := sys.stdin.readline()) else "q", lambda: None)
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield Keys(lambda: _key(terminal), lambda: termios.tcflush(terminal, termios.TCIFLUSH))
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _key(terminal: int) -> str:
    sys.stdout.flush()
    key = os.read(terminal, 1)
    if key == b"\x1b":  # an arrow or function key: its other bytes are no choices
        while select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 64)
    return "q" if key in (b"", b"\x04") else key.decode("ascii", "replace").lower()

"""What a cell shows: HTML that reads in light and in dark, and a plain text that says the same."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape

# half-transparent backgrounds keep the reader's own text colour, so they work on white and on black
GREEN, RED, BLUE, YELLOW = (f"background:rgba({rgb},.3)" for rgb in ("0,158,115", "213,94,0", "0,114,178", "230,159,0"))
LINE = "border:1px solid rgba(128,128,128,.4);padding:2px 8px"
BLOCK = f"flex:1 1 16em;min-width:0;{LINE}"


@dataclass(frozen=True, repr=False)
class View:
    """What a cell shows: `html` in a notebook, `text` everywhere else."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def show(function: Callable | type) -> View:
    """Show the source of a function or class of the package, where a notebook teaches it."""
    source = textwrap.dedent(inspect.getsource(function)).rstrip()
    return View(f'<pre style="{LINE};overflow-x:auto">{escape(source)}</pre>', source)


def side_by_side(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> View:
    """Show texts beside one another, each under its title: `side_by_side({"question": q, "answer": a})`."""
    titled = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
    blocks = {
        str(title): View(f'<div style="white-space:pre-wrap">{escape(str(text))}</div>', str(text))
        for title, text in titled
    }
    return columns(blocks)


def columns(views: Mapping[str, View]) -> View:
    """Views beside one another, each under its title; below one another where the page is narrow, and as text."""
    cells = "".join(
        f'<div style="{BLOCK}"><strong>{escape(title)}</strong>{view.html}</div>' for title, view in views.items()
    )
    text = "\n".join(f"{title}\n{textwrap.indent(view.text, '  ')}" for title, view in views.items())
    return View(f'<div style="display:flex;flex-wrap:wrap;gap:8px">{cells}</div>', text)


def rows(views: Mapping[str, View]) -> View:
    """Views below one another, their labels in a column of their own."""
    width = max(map(len, views))
    side = f"{LINE};text-align:left"
    html = "".join(
        f'<tr><th style="{side}">{escape(label)}</th><td style="{side}">{view.html}</td></tr>'
        for label, view in views.items()
    )
    text = "\n".join(f"{label.ljust(width)}  {view.text}" for label, view in views.items())
    return View(f'<table style="border-collapse:collapse">{html}</table>', text)


def marked(text: str, style: str, title: str = "") -> str:
    """HTML of a text with a coloured background."""
    told = f' title="{escape(title)}"' if title else ""
    return f'<span{told} style="{style};padding:1px 3px">{escape(text)}</span>'

"""What a cell shows: HTML that reads in light and in dark, and a plain text that says the same; texts and tables."""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

# half-transparent backgrounds keep the reader's own text colour, so they work on white and on black
GREEN, RED, BLUE, YELLOW = (f"background:rgba({rgb},.3)" for rgb in ("0,158,115", "213,94,0", "0,114,178", "230,159,0"))
LINE = "border:1px solid rgba(128,128,128,.4);padding:2px 8px"


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


def side_by_side(texts: Mapping[str, str] | Iterable[tuple[str, str]]) -> View:
    """Show texts beside one another, each under its title: `side_by_side({"question": q, "answer": a})`."""
    return columns(
        {
            str(title): View(f'<div style="white-space:pre-wrap">{escape(str(text))}</div>', str(text))
            for title, text in dict(texts).items()
        }
    )


def columns(views: Mapping[str, View]) -> View:
    """Views beside one another, each under its title; below one another where the page is narrow, and as text."""
    cells = "".join(
        f'<div style="flex:1 1 16em;min-width:0;{LINE}"><strong>{escape(title)}</strong>{view.html}</div>'
        for title, view in views.items()
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


def table(
    records: Sequence[Mapping], columns: Sequence[str] | None = None, digits: int | Mapping[str, int] = 2
) -> View:
    """Show records as a small table: the given columns, or all in the order in which they come.

    Args:
        digits: decimal places of floats, for all columns or by column. Whole numbers and texts are shown as they are,
            a missing value as a dash.

    >>> table([{"arm": "sft", "% correct": 74.512}, {"arm": "ka", "% correct": None}], digits=1)
    arm  % correct
    ---  ---------
    sft       74.5
    ka           –
    """
    names = list(columns) if columns is not None else list(dict.fromkeys(name for record in records for name in record))
    cells = [[_cell(record.get(name), name, digits) for name in names] for record in records]
    right = [any(_is_number(record.get(name)) for record in records) for name in names]

    def line(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f'<{tag} style="{LINE};text-align:{"right" if aligned else "left"}">{escape(value)}</{tag}>'
            for value, aligned in zip(values, right, strict=True)
        )

    body = "".join(f"<tr>{line('td', values)}</tr>" for values in cells)
    html = f'<table style="border-collapse:collapse"><tr>{line("th", names)}</tr>{body}</table>'
    flat = [[" ".join(value.split("\n")) for value in values] for values in (names, *cells)]
    widths = [max(map(len, column)) for column in zip(*flat, strict=True)]
    flat.insert(1, ["-" * width for width in widths])
    texts = (
        "  ".join(v.rjust(w) if aligned else v.ljust(w) for v, w, aligned in zip(values, widths, right, strict=True))
        for values in flat
    )
    return View(html, "\n".join(text.rstrip() for text in texts))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, column: str, digits: int | Mapping[str, int]) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.{digits if isinstance(digits, int) else digits.get(column, 2)}f}"
    return f"{value:,}" if _is_number(value) else str(value)

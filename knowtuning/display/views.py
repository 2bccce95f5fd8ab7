"""What a cell shows: HTML that reads in light and in dark, and a plain text that says the same; texts and tables."""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
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


def side_by_side(texts: Mapping[str, str]) -> View:
    """Show texts beside one another, each under its title: `side_by_side({"question": q, "answer": a})`."""
    style = "white-space:pre-wrap"
    return columns({title: View(f'<div style="{style}">{escape(text)}</div>', text) for title, text in texts.items()})


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
    width, side = max(map(len, views)), f'style="{LINE};text-align:left"'
    cells = (f"<th {side}>{escape(label)}</th><td {side}>{view.html}</td>" for label, view in views.items())
    html = "".join(f"<tr>{cell}</tr>" for cell in cells)
    text = "\n".join(f"{label.ljust(width)}  {view.text}" for label, view in views.items())
    return View(f'<table style="border-collapse:collapse">{html}</table>', text)


def table(records: Sequence[Mapping], digits: int | Mapping[str, int] = 2) -> View:
    """Show records as a small table, the columns in the order in which they come.

    Args:
        digits: decimal places of floats, for all columns or by column. Whole numbers and texts are shown as they are,
            a missing value as a dash.

    >>> table([{"arm": "sft", "% correct": 74.512}, {"arm": "ka", "% correct": None}], digits=1)
    arm  % correct
    ---  ---------
    sft       74.5
    ka           –
    """
    names = dict.fromkeys(name for record in records for name in record)
    places = digits if isinstance(digits, Mapping) else dict.fromkeys(names, digits)
    html, text = [], []  # cells by column
    for name in names:
        values = [record.get(name) for record in records]
        side = "right" if any(map(_is_number, values)) else "left"
        column = [name, *(_cell(value, places.get(name, 2)) for value in values)]
        cells = (f'style="{LINE};text-align:{side}">{escape(cell)}' for cell in column)
        html.append([f"<{tag} {cell}</{tag}>" for tag, cell in zip(("th", *["td"] * len(values)), cells, strict=True)])
        flat = [" ".join(cell.split("\n")) for cell in column]
        width = max(map(len, flat))
        flat.insert(1, "-" * width)
        text.append([cell.rjust(width) if side == "right" else cell.ljust(width) for cell in flat])
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in zip(*html, strict=True))
    lines = ("  ".join(cells).rstrip() for cells in zip(*text, strict=True))
    return View(f'<table style="border-collapse:collapse">{body}</table>', "\n".join(lines))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.{digits}f}"
    return f"{value:,}" if _is_number(value) else str(value)

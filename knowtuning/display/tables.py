"""Rows as a small table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from knowtuning.display.view import LINE, View


def table(rows: Sequence[Mapping], columns: Sequence[str] | None = None, digits: int | Mapping[str, int] = 2) -> View:
    """Show rows as a small table: the given columns, or all in the order in which they come.

    Args:
        digits: decimal places of floats, for all columns or by column. Whole numbers and texts are shown as they are,
            a missing value as a dash.

    >>> table([{"arm": "sft", "% correct": 74.512}, {"arm": "ka", "% correct": None}], digits=1)
    arm  % correct
    ---  ---------
    sft       74.5
    ka           –
    """
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name), name, digits) for name in names] for row in rows]
    right = {name for name in names if any(_number(row.get(name)) for row in rows)}
    return View(_html_table(names, cells, right), _text_table(names, cells, right))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, column: str, digits: int | Mapping[str, int]) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.{digits if isinstance(digits, int) else digits.get(column, 2)}f}"
    return f"{value:,}" if _number(value) else str(value)


def _html_table(names: list[str], cells: list[list[str]], right: set[str]) -> str:
    def line(tag: str, values: Sequence[str]) -> str:
        sides = ("right" if name in right else "left" for name in names)
        return "".join(
            f'<{tag} style="{LINE};text-align:{side}">{escape(value)}</{tag}>'
            for side, value in zip(sides, values, strict=True)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in cells)
    return f'<table style="border-collapse:collapse"><tr>{line("th", names)}</tr>{body}</table>'


def _text_table(names: list[str], cells: list[list[str]], right: set[str]) -> str:
    flat = [[" ".join(value.split("\n")) for value in row] for row in (names, *cells)]
    widths = [max(len(row[place]) for row in flat) for place in range(len(names))]
    flat.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            value.rjust(width) if name in right else value.ljust(width)
            for name, value, width in zip(names, row, widths, strict=True)
        ).rstrip()
        for row in flat
    )

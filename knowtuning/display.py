"""Views for notebooks: plain HTML that reads in light and in dark, with a plain text beside it that says the same.

Everything that comes from data is escaped, and nothing runs: no scripts, no outside resources. Marks are told apart by
a sign or a line as well as by colour.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

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


class Said(Protocol):
    """What is needed of a statement of `knowtuning.lab.world`; `relation` is None where it could not be read."""

    sentence: str
    relation: str | None
    correct: bool


def show(function: Callable | type) -> View:
    """Show the source of a function or class of the package, where a notebook teaches it."""
    source = textwrap.dedent(inspect.getsource(function)).rstrip()
    return View(f'<pre style="{LINE};overflow-x:auto">{escape(source)}</pre>', source)


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


def shaded_facts(facts: Sequence[str], perplexities: Sequence[float], difficult: Sequence[bool]) -> View:
    """Show the facts of one answer, shaded by perplexity: the darker, the harder. A star marks the difficult ones."""
    hardness = [math.log(max(perplexity, 1)) for perplexity in perplexities]
    rows, lines = [], []
    for fact, perplexity, weight, hard in zip(facts, perplexities, hardness, difficult, strict=True):
        share = weight / max(hardness) if max(hardness) else 0
        shade = f"background:rgba(230,159,0,{0.6 * share:.2f})"
        mark = "★" if hard else ""
        cells = f'<td style="{LINE};text-align:right">{perplexity:.2f}</td><td style="{LINE}">{mark}</td>'
        rows.append(f'<tr>{cells}<td style="{LINE};{shade};text-align:left">{escape(fact)}</td></tr>')
        lines.append(f"{perplexity:8.2f} {'*' if hard else ' '} {fact}")
    heads = "".join(f'<th style="{LINE}">{head}</th>' for head in ("perplexity", "★ difficult", "fact"))
    html = f'<table style="border-collapse:collapse"><tr>{heads}</tr>{"".join(rows)}</table>'
    return View(html, "\n".join(["perplexity (* difficult)", *lines]))


def disturbances(preferred: str, rejected: Mapping[str, str]) -> View:
    """Show what was done to the preferred answer for each aspect, word by word.

    Struck through (text: `[-…-]`) is what the rejected answer leaves out, underlined (`{+…+}`) is what it puts in.
    Words that moved are shown as both.

    >>> disturbances("It is red. It is old.", {"completeness": "It is red."})
    preferred     It is red. It is old.
    completeness  It is red. [-It is old.-]
    """
    parts = [("preferred", escape(preferred), preferred)]
    for aspect, text in rejected.items():
        runs = list(_word_diff(preferred, text))
        parts.append((aspect, " ".join(_html_run(*run) for run in runs), " ".join(_text_run(*run) for run in runs)))
    return _labelled(parts)


def marked_answer(statements: Iterable[Said], missing: Sequence[str] = ()) -> View:
    """Show an answer with every statement marked: ✓ correct, ✗ incorrect, ? unreadable; then what it leaves out.

    Args:
        statements: as `World.parse` returns them.
        missing: the facts, as sentences or names of relations, that the answer does not state.
    """
    html, lines = [], []
    for said in statements:
        mark, name, color = _verdict(said)
        html.append(f'<span title="{name}" style="{color};padding:1px 3px">{mark} {escape(said.sentence)}</span>')
        lines.append(f"{mark} {said.sentence}")
    left_out = [f'<span title="missing" style="{BLUE};padding:1px 3px">– {escape(fact)}</span>' for fact in missing]
    key = "<small>✓ correct &nbsp; ✗ incorrect &nbsp; ? unreadable &nbsp; – missing</small>"
    body = " ".join(html) or "<em>empty answer</em>"
    text = [*(lines or ["(empty answer)"]), *(f"– missing: {fact}" for fact in missing)]
    return View(f'<div style="line-height:1.9">{body}<br>{" ".join(left_out)}<br>{key}</div>', "\n".join(text))


def side_by_side(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> View:
    """Show texts beside one another, each under its title: `side_by_side({"question": q, "answer": a})`."""
    titled = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
    cells = "".join(
        f'<div style="flex:1 1 16em;{LINE}"><strong>{escape(str(title))}</strong>'
        f'<div style="white-space:pre-wrap">{escape(str(text))}</div></div>'
        for title, text in titled
    )
    blocks = [f"{title}\n{textwrap.indent(str(text), '  ')}" for title, text in titled]
    return View(f'<div style="display:flex;flex-wrap:wrap;gap:8px">{cells}</div>', "\n".join(blocks))


# --- cells and tables


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


def _labelled(parts: Sequence[tuple[str, str, str]]) -> View:
    """Rows of (label, HTML, text), the labels in a column of their own."""
    width = max(len(label) for label, _, _ in parts)
    side = f"{LINE};text-align:left"
    rows = "".join(
        f'<tr><th style="{side}">{escape(label)}</th><td style="{side}">{html}</td></tr>' for label, html, _ in parts
    )
    lines = (f"{label.ljust(width)}  {text}" for label, _, text in parts)
    return View(f'<table style="border-collapse:collapse">{rows}</table>', "\n".join(lines))


# --- marks


def _word_diff(before: str, after: str) -> Iterable[tuple[str, str]]:
    """Runs of ("same" | "out" | "in", words) that lead from one text to the other."""
    old, new = re.findall(r"\S+", before), re.findall(r"\S+", after)
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield "same", " ".join(old[i:j])
            continue
        if i < j:
            yield "out", " ".join(old[i:j])
        if k < m:
            yield "in", " ".join(new[k:m])


def _html_run(kind: str, words: str) -> str:
    if kind == "out":
        return f'<del style="{RED}">{escape(words)}</del>'
    return f'<ins style="{GREEN}">{escape(words)}</ins>' if kind == "in" else escape(words)


def _text_run(kind: str, words: str) -> str:
    return {"same": words, "out": f"[-{words}-]", "in": f"{{+{words}+}}"}[kind]


def _verdict(said: Said) -> tuple[str, str, str]:
    if said.correct:
        return "✓", "correct", GREEN
    if said.relation is None:
        return "?", "unreadable", YELLOW
    return "✗", "incorrect", RED

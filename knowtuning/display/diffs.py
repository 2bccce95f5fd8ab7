"""What was done to an answer, word by word."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby

from knowtuning.display.views import BLUE, GREEN, RED, View, rows

Run = tuple[str, str]
_TEXT = {"same": "{}", "out": "[-{}-]", "in": "{{+{}+}}", "from": "[<{}<]", "to": "{{>{}>}}"}
_STYLES = {"out": ("del", RED), "in": ("ins", GREEN), "from": ("del", BLUE), "to": ("ins", BLUE)}
_HTML = {kind: f'<{tag} style="{style}">{{}}</{tag}>' for kind, (tag, style) in _STYLES.items()} | {"same": "{}"}


def disturbances(preferred: str, rejected: Mapping[str, str]) -> View:
    """Show what was done to the preferred answer for each aspect, word by word.

    Struck through (text: `[-…-]`) is what the rejected answer leaves out, underlined (`{+…+}`) is what it puts in.
    Words that only moved are blue: struck through where they were (`[<…<]`), underlined where they are (`{>…>}`).

    >>> disturbances("It is red. It is old.", {"completeness": "It is red."})
    preferred     It is red. It is old.
    completeness  It is red. [-It is old.-]
    """
    views = {"preferred": View(escape(preferred), preferred)}
    for aspect, text in rejected.items():
        runs = list(word_diff(preferred, text))
        html = (_HTML[kind].format(escape(words)) for kind, words in runs)
        views[aspect] = View(" ".join(html), " ".join(_TEXT[kind].format(words) for kind, words in runs))
    view = rows(views)
    key = "<small><del>left out</del> &nbsp; <ins>put in</ins> &nbsp; blue: moved from there to here</small>"
    return View(f"{view.html}{key}", view.text)


def word_diff(before: str, after: str) -> Iterator[Run]:
    """Runs of ("same" | "out" | "in" | "from" | "to", words) that lead from one text to the other.

    Whole sentences are compared first, then the words of those that have no equal. A sentence that leaves at one place
    and comes at another has moved: "from" there, "to" here.
    """
    old, new = (re.split(r"(?<=[.!?]) ", " ".join(text.split())) for text in (before, after))
    runs: list[Run] = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        gone, come = old[i:j], new[k:m]
        if tag == "replace" and not set(gone) & set(new) and not set(come) & set(old):
            runs += _words(" ".join(gone).split(), " ".join(come).split())
        elif tag == "equal":
            runs += [("same", sentence) for sentence in gone]
        else:
            runs += [("out", sentence) for sentence in gone] + [("in", sentence) for sentence in come]
    moved = _moved(runs)
    for kind, parts in groupby(runs, lambda run: moved.get(run, run[0])):
        yield kind, " ".join(words for _, words in parts)


def _words(old: Sequence[str], new: Sequence[str]) -> Iterator[Run]:
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield "same", " ".join(old[i:j])
            continue
        if i < j:
            yield "out", " ".join(old[i:j])
        if k < m:
            yield "in", " ".join(new[k:m])


def _moved(runs: Sequence[Run]) -> dict[Run, str]:
    """What leaves once and comes once, word for word: "from" and "to" in place of "out" and "in"."""
    times = Counter(runs)
    places = {words for kind, words in runs if times["out", words] == times["in", words] == 1}
    return {(kind, words): to for words in places for kind, to in (("out", "from"), ("in", "to"))}

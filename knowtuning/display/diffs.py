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

    Whole sentences are compared first, then the words of those that have no equal. What leaves at one place and comes,
    word for word, at another has moved: "from" there, "to" here.
    """
    old, new = (re.split(r"(?<=[.!?]) ", " ".join(text.split())) for text in (before, after))
    runs: list[Run] = []
    for part in _parts(old, new):
        gone, come = part.get("out"), part.get("in")
        if gone and come and not set(gone) & set(new) and not set(come) & set(old):
            for words in _parts(" ".join(gone).split(), " ".join(come).split()):
                runs += [(kind, " ".join(stretch)) for kind, stretch in words.items() if stretch]
        else:
            runs += [(kind, sentence) for kind, sentences in part.items() for sentence in sentences]
    times = Counter(runs)
    moved = {words for kind, words in runs if times["out", words] == times["in", words] == 1}
    names = {"out": "from", "in": "to"}
    for kind, parts in groupby(runs, lambda run: names.get(run[0], run[0]) if run[1] in moved else run[0]):
        yield kind, " ".join(words for _, words in parts)


def _parts(old: Sequence[str], new: Sequence[str]) -> Iterator[dict[str, Sequence[str]]]:
    """Stretches of two sequences, one after the other: {"same": …}, or {"out": …, "in": …} where they differ."""
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield {"same": old[i:j]} if tag == "equal" else {"out": old[i:j], "in": new[k:m]}

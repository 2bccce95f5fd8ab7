"""From any English text to its sentences: lines, lists, full stops that end nothing."""

from __future__ import annotations

import re
from typing import NamedTuple

_MARKER = re.compile(r"^\s*(?:[-*•●▪–—·]\s+|\(?\d{1,3}[.)]\s+|\(?[a-zA-Z]\)\s+|#{1,4}\s+)")
_NUMBERED = re.compile(r"(?<=[\s:,.;])\(?(\d{1,2})[.)]\s+(?=\S)")
_END = re.compile(r"([.!?…]+[\"'”’)\]]*)\s+(?=[\"'“(\[]*[^\sa-z])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|Gen|Col|Rev|Gov|Sen|Mt|[Ff]ig|[Vv]s|[Cc]a|[Ee]tc|Inc|Ltd|Co|Jr|No|e\.g|i\.e|[ap]\.m"
    r"|Ph\.D)|(?<!\w)(?:[A-Z]\.)*[A-Z]|^\W*\d{1,2})$"
)


class Sentence(NamedTuple):
    """A sentence, and the line ("You need:") that leads the list of which it is an item."""

    text: str
    lead: str = ""


def sentences(text: str) -> list[Sentence]:
    """Split a text into sentences, in order; marks of list items are left out.

    >>> [s.text for s in sentences("Dr. A. Ruiz paid $3.50, e.g. for tea. See www.x.org. Bye")]
    ['Dr. A. Ruiz paid $3.50, e.g. for tea.', 'See www.x.org.', 'Bye']
    >>> sentences("You need:\\n- flour\\n- salt")
    [Sentence(text='flour', lead='You need:'), Sentence(text='salt', lead='You need:')]
    """
    # a line that begins small goes on with the one before, and "1. … 2. …" inside a line is a list
    lines = []
    for line in re.sub(r"(?<=[^\s.!?:;])[ \t]*\n[ \t]*(?=[a-z][^)\s])", " ", text).splitlines():
        numbered = _NUMBERED.findall(f" {line}")[:2] == ["1", "2"]
        lines += (_NUMBERED.sub(r"\n\g<0>", f" {line}") if numbered else line).split("\n")
    lines = [line for line in lines if re.search(r"\w", _MARKER.sub("", line, count=1))]
    parts, lead = [], ""
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        content = _MARKER.sub("", line, count=1)
        split = _split(re.sub(r"\s+([,.;:!?%)\]])(?=\s|$)", r"\1", " ".join(content.split())))
        left_open = line.rstrip().endswith(":") or (_MARKER.match(following) and line.rstrip()[-1] not in ".!?")
        if content == line and following and left_open:
            *split, lead = split
            parts += [Sentence(part) for part in split]
        else:
            lead = lead if content != line or len(line.split()) <= 12 else ""
            parts += [Sentence(part, lead) for part in split]
    return parts


def _split(line: str) -> list[str]:
    parts, start = [], 0
    for end in _END.finditer(line):
        text = line[start : end.end(1)]
        inside = not is_balanced(text) and re.search(r"[)\"]", line[end.end() :])
        if not inside and not (end[1] == "." and _ABBREVIATION.search(text[:-1])):
            parts.append(text)
            start = end.end()
    return [part for part in (*parts, line[start:]) if re.search(r"\w", part)]


def is_balanced(text: str) -> bool:
    """Whether a text ends outside brackets and quotation marks."""
    return text.count("(") <= text.count(")") and text.count('"') % 2 == 0

"""From any English text to its sentences: lines, lists, full stops that end nothing."""

from __future__ import annotations

import re
from typing import NamedTuple

from knowtuning.lab.rules_words import word_set

TITLES = word_set(
    "mr mrs ms dr st prof gen col sgt capt lt rev hon mt ft fig vs approx gov sen rep pres vol ca cf eg ie"
)
ABBREVIATIONS = word_set(
    "e.g i.e u.s u.k u.s.a u.n d.c a.m p.m ph.d b.c a.d etc inc ltd co corp jr sr jan feb mar apr aug sept oct "
    "nov dec al est dept min max avg lbs oz ave blvd"
)
OPENERS = word_set(
    "the a an it they he she we you i this that these those there here in on at for from with as if when while "
    "although however but and so some many most all other another each its their his her one two what who how "
    "why where after before during since because then also first second third finally additionally moreover "
    "therefore no not"
)
_MARKER = re.compile(r"^\s*(?:[-*•●▪–—·]\s+|\(?\d{1,3}[.)]\s+|\(?[a-zA-Z][)]\s+|#{1,4}\s+)")
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)")
_GLUED = re.compile(r"(?<=[a-z)\d])\.(?=[A-Z][a-z]*\s)")


class Sentence(NamedTuple):
    """A sentence, whether it is an item of a list, and the line ("Ingredients:") that leads that list."""

    text: str
    item: bool = False
    lead: str = ""


def sentences(text: str) -> list[Sentence]:
    """Split a text into sentences, in order; list items are known as such, and so is the line that leads them.

    Abbreviations, initials, decimals, web addresses and full stops inside quotes or brackets end no sentence.

    Example:
        >>> [s.text for s in sentences("Dr. A. Ruiz paid $3.50, e.g. for tea. See www.x.org. Bye")]
        ['Dr. A. Ruiz paid $3.50, e.g. for tea.', 'See www.x.org.', 'Bye']
        >>> sentences("You need:\\n- flour\\n- salt")[1:]
        [Sentence(text='salt', item=True, lead='You need:')]
    """
    found: list[Sentence] = []
    lead = ""
    lines = _lines(text)
    for position, line in enumerate(lines):
        item = bool(_MARKER.match(line))
        content = tidy(_MARKER.sub("", line))
        follows = position + 1 < len(lines)
        if follows and _announces(content, item, lines[position + 1]):
            *before, lead = split_sentences(content)
            found += [Sentence(part) for part in before]
            if not _leads(lines[position + 1 :]):
                found.append(Sentence(lead))
                lead = ""
            continue
        parts = split_sentences(content)
        found += [Sentence(part, item and i == 0, lead) for i, part in enumerate(parts)]
        if not item and not _short(content):
            lead = ""
    return found


def _announces(line: str, item: bool, following: str) -> bool:
    """Tell whether a line leads the list that follows: it ends with a colon, or is left open before a first item."""
    if _MARKER.match(following):
        return line.endswith(":") or not (item or line.endswith((".", "!", "?")))
    return line.endswith(":") and not item


def _short(line: str) -> bool:
    return len(line.split()) <= 12 and not line.endswith((".", "!", "?"))


def _leads(rest: list[str]) -> bool:
    return bool(_MARKER.match(rest[0])) or _short(rest[0])


def _lines(text: str) -> list[str]:
    """Return the text's lines: wrapped sentences on one line again, each item of "1. … 2. …" on a line of its own."""
    lines: list[str] = []
    for line in _break_enumerations(text).splitlines():
        wrapped = (
            lines and lines[-1].strip() and line.lstrip()[:1].islower() and not re.search(r"[.!?:;]\s*$", lines[-1])
        )
        if wrapped and not _MARKER.match(line) and not _MARKER.match(lines[-1]):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return [line for line in lines if re.search(r"\w", _MARKER.sub("", line))]


def _break_enumerations(text: str) -> str:
    """Put each item of an enumeration inside a line on its own line, when it counts 1, 2 and maybe on."""
    text = _break_bullets(text)
    for pattern in (r"(?<=[\s:,.;]){}\)\s+", r"(?<=[\s:,.;])\({}\)\s*", r"(?<=[\s:,.;]){}\.\s+"):
        starts, after = [], 0
        for number in range(1, 100):
            match = re.compile(pattern.format(number)).search(" " + text, after)
            if not match:
                break
            starts.append(match.start() - 1)
            after = match.end() - 1
        if len(starts) >= 2:
            edges = [0, *starts, len(text)]
            pieces = [text[a:b].strip(" ,;") for a, b in zip(edges, edges[1:], strict=False)]
            return "\n".join(piece for piece in pieces if piece)
    return text


def _break_bullets(text: str) -> str:
    """Put bullets inside a line on lines of their own: where line ends were lost, runs of blanks are left of them."""
    bullet = re.compile(r"[ \t]{2,}[-•*][ \t]+(?=\w)")
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if len(bullet.findall(line)) > 1:
            lines[i] = re.sub(r"[ \t]{4,}", "\n", bullet.sub("\n- ", line))
    return "\n".join(lines)


def split_sentences(line: str) -> list[str]:
    """Split one line into sentences."""
    line = _GLUED.sub(lambda m: ". " if _opens(line[m.end() :]) else ".", line)
    parts, start = [], 0
    for match in _END.finditer(line):
        if _ends_sentence(line, start, match):
            parts.append(line[start : match.end()].strip())
            start = match.end()
    parts.append(line[start:].strip())
    return [part for part in parts if re.search(r"\w", part)]


def _opens(rest: str) -> bool:
    word = re.match(r"\s*[\"'“(]*(\w+)", rest)
    return bool(word) and word[1][0].isupper() and word[1].lower() in OPENERS


def _ends_sentence(line: str, start: int, match: re.Match) -> bool:
    rest = line[match.end() :].lstrip()
    if not rest:
        return True
    before = line[start : match.start()]
    if before.count("(") > before.count(")") and ")" in rest and not match[0].endswith(")"):
        return False
    closed = (before + match[0]).count('"') % 2 == 0
    if not closed and rest.count('"') % 2 == 1:
        return False
    if match[0] not in (".", ".)"):
        return not rest[0].islower()
    last = before.split()[-1].lstrip("(\"'“[") if before.split() else ""
    if last.lower() == "no" and rest[0].isdigit():
        return False
    if last.lower() in TITLES or re.fullmatch(r"\d{1,2}", last) and start == match.start() - len(last):
        return False
    initial = re.fullmatch(r"(?:[A-Za-z]\.)*[A-Z]", last)
    if last.lower() == "etc" or (initial and re.search(r"\d $", before[: -len(last)])):
        return not rest[0].islower()
    if initial or last.lower() in ABBREVIATIONS:
        return _opens(rest)
    return not rest[0].islower() or len(last) > 3 and _END.search(rest) is not None and last.isalpha()


def tidy(text: str) -> str:
    """Undo the blanks of tokenised text ("the House , who") and runs of blanks; nothing else changes.

    Example:
        >>> tidy("the  House , who 's ( then ) there .")
        "the House, who's (then) there."
    """
    text = re.sub(r"``\s*(.*?)\s*''", r'"\1"', text, flags=re.S)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,;:!?%)\]])", r"\1", text)
    text = re.sub(r" \.(?=\s|$|\")", ".", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    text = re.sub(r" ('s|'re|'ve|'ll|n't)\b", r"\1", text)
    return re.sub(r"(\d) / (\d)", r"\1/\2", text)

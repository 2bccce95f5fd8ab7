"""One annotator's work on a blind sheet: where they are, what they chose, saved at every choice; and what may be shown.

The terminal (`annotate_terminal`) and the notebook (`annotate_buttons`) are two faces of the same `Annotation`.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

from knowtuning.evaluation.human.sheet import CHOICES, read_choices, read_sheet
from knowtuning.files import DataError
from knowtuning.knowledge.aspects import ASPECTS

MEANING = {
    "completeness": "Which answer tells more of what the question calls for? A longer answer need not tell more.",
    "factuality": "Which answer says less that is false? Judge what it says, not what it leaves out.",
    "logicality": "Which answer is in better order, so that each sentence follows from those before it?",
}


class Annotation:
    """A session on a sheet; it starts at the first choice that is open, whoever was killed when.

    Args:
        sheet: the file that `make_sheet` describes; the key is never read.
        annotator: a name of letters, digits, "-" and "_"; it enters every choice.
        out: where choices go, one JSON line each `{"annotator", "item", "aspect", "choice", "at"}`; by default
            `choices/<annotator>.jsonl` beside the sheet.

    `item` is the item to be shown and `aspect` the one to be chosen on next; both None when all is done.
    A choice is on disk when `choose` returns. A file of another sheet or annotator raises `DataError`.
    """

    def __init__(self, sheet: Path, annotator: str, out: Path | None = None) -> None:
        if not re.fullmatch(r"\w[\w-]{0,39}", annotator):
            raise DataError(f"annotator {annotator!r}: use up to 40 letters, digits, '-' and '_'.")
        self.items = read_sheet(Path(sheet))
        self.annotator = annotator
        self.out = Path(out or Path(sheet).parent / "choices" / f"{annotator}.jsonl")
        self._steps = [(number, aspect) for number in range(len(self.items)) for aspect in ASPECTS]
        self.total = len(self._steps)
        self._chosen = self._resume()
        self._place = self._first_open()

    @property
    def item(self) -> dict | None:
        return None if self.done else self.items[self._steps[self._place][0]]

    @property
    def aspect(self) -> str | None:
        return None if self.done else self._steps[self._place][1]

    @property
    def done(self) -> bool:
        return self._place == self.total

    @property
    def made(self) -> int:
        """Choices made so far, of `total`."""
        return len(self._chosen)

    @property
    def progress(self) -> str:
        """Which item is shown, and how many choices are made."""
        made = f"{self.made} of {self.total} choices made"
        return made if self.done else f"item {self._steps[self._place][0] + 1} of {len(self.items)} · {made}"

    def chosen(self, aspect: str) -> str | None:
        """What was chosen on an aspect of the item that is shown, None where it is open."""
        return None if self.item is None else self._chosen.get((self.item["item"], aspect))

    def choose(self, aspect: str, choice: str) -> None:
        """Save a choice on the item that is shown, and go to the first one that is open."""
        if self.item is None:
            raise ValueError("every item of the sheet has its choices; go back to change one.")
        if aspect not in ASPECTS or choice not in CHOICES:
            raise ValueError(f"{aspect!r}: {choice!r} is no choice; use {', '.join(ASPECTS)}: {', '.join(CHOICES)}.")
        name = self.item["item"]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._append({"annotator": self.annotator, "item": name, "aspect": aspect, "choice": choice, "at": now})
        self._chosen[name, aspect] = choice
        self._place = self._first_open()

    def back(self) -> None:
        """Go to the choice before this one, to make it anew; at the first one, stay."""
        self._place = max(0, self._place - 1)

    def _first_open(self) -> int:
        for place, (number, aspect) in enumerate(self._steps):
            if (self.items[number]["item"], aspect) not in self._chosen:
                return place
        return self.total

    def _resume(self) -> dict[tuple[str, str], str]:
        """The choices of earlier sessions."""
        if not self.out.exists():
            return {}
        self._cut_torn_line()
        known, chosen = {item["item"] for item in self.items}, {}
        for row in read_choices(self.out):
            if row["annotator"] != self.annotator:
                raise DataError(f"{self.out} holds choices of {row['annotator']}; give {self.annotator} another --out.")
            if row["item"] not in known:
                raise DataError(f"{self.out}: item {row['item']!r} is not on this sheet; give another --out.")
            chosen[row["item"], row["aspect"]] = row["choice"]
        return chosen

    def _cut_torn_line(self) -> None:
        """Cut off what a kill left of a choice at the end of the file: it is asked for again."""
        content = self.out.read_bytes()
        torn = content[content.rfind(b"\n") + 1 :]
        beginning = json.dumps({"annotator": self.annotator}, ensure_ascii=False)[:-1].encode()
        if not torn.startswith(beginning[: len(torn)]):
            raise DataError(
                f"{self.out} does not end as a file of choices of {self.annotator} does; give another --out."
            )
        os.truncate(self.out, len(content) - len(torn))

    def _append(self, row: dict) -> None:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with open(self.out, "ab") as file:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def visible_item(item: dict) -> dict[str, str]:
    """The texts of an item as an annotator may see them; an empty answer says so."""
    shown = {name: visible(text) for name, text in item.items() if name != "item"}
    return {name: text if text.strip() else "(empty)" for name, text in shown.items()}


def visible(text: str) -> str:
    r"""The text with everything that could steer a terminal or turn the reading direction written out as its number.

    Line breaks stay, tabs become spaces, and joiners that scripts need stay. All other control and format characters,
    among them ANSI escapes and bidi overrides, and lone surrogates are shown as <U+001B> and the like.

    >>> visible("red \x1b[31m \u202eabc")
    'red <U+001B>[31m <U+202E>abc'
    """
    harmful = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        f"<U+{ord(char):04X}>" if unicodedata.category(char) in harmful and char not in "\n\u200c\u200d" else char
        for char in text.replace("\r\n", "\n").expandtabs(4)
    )

"""What a teacher's reply says of the gold facts of one answer, by their marks; facts go by their number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from nltk.stem import PorterStemmer

from knowtuning.data.sentences import sentences
from knowtuning.evaluation.gold_facts import (
    NUMBER_WORDS,
    Gold,
    Labelled,
    Mark,
    denies,
    find,
    holds,
    normal,
    states,
    without,
)
from knowtuning.lab.rules import KIND_OF, OPPOSITES, PAST

Change = Literal["", "detail", "negation"]

_PRONOUN = re.compile(r"\b(?:it|its|they|their|them|he|his|him|she|her|those)\b")
_POINTER = re.compile(r"\b(?:this|these|the former|the latter)\b")
_EXPLETIVE = re.compile(r"\bit (?:is|was|has been|may be|can be|seems)(?: \w+){0,3} that\b")
_KIND = {word: kind for name, kind in KIND_OF.items() for word in normal(name).split()}
_STEM = PorterStemmer().stem
_DENYING = "no not never can cannot is are was were has have had do does did it true false that n t"
_DENYING_STEMS = set(map(_STEM, _DENYING.split()))


class ReplyReader:
    """Reads replies about a labelled answer."""

    def __init__(self, labelled: Labelled) -> None:
        self.id, self.domain = labelled.id, labelled.domain
        self.question, self.answer = labelled.question, labelled.answer
        self.gold = labelled.facts
        self.facts = [fact.text for fact in labelled.facts]

    def stated(self, statement: str) -> list[int]:
        """The gold facts that one statement states by itself. What else it says cannot be seen."""
        return [number for number, fact in enumerate(self.gold) if states(statement, fact)]

    def stands_alone(self, statement: str) -> bool:
        """Whether it names the subject of a gold fact, has no pronoun before that name, and points nowhere ("this")."""
        places = [place for fact in self.gold if (place := find(fact.marks[0], statement)) is not None]
        plain = _EXPLETIVE.sub(lambda match: "-" * len(match[0]), normal(statement))
        return bool(places) and not _PRONOUN.search(plain[: min(places)]) and not _POINTER.search(plain)

    def told(self, text: str) -> list[set[int]]:
        """The gold facts that each sentence of a text tells.

        A sentence tells a fact when it holds the decisive marks with the fact's polarity and the text names the
        subject, as pronouns stand for it; where another subject has the same said of it, the sentence must name it,
        or follow the one that does and name no other. What no sentence tells is looked for in two neighbouring ones.
        """
        parts = [sentence.text for sentence in sentences(text)]
        told: list[set[int]] = [set() for _ in parts]
        for number, fact in enumerate(self.gold):
            if find(fact.marks[0], text) is not None:
                for place in self._where(fact, parts):
                    told[place].add(number)
        return told

    def _where(self, fact: Gold, parts: list[str]) -> set[int]:
        """The sentences that tell a fact."""
        subject, *details = fact.marks
        twins = self._twins(fact)
        decisive = fact.marks if twins else details
        if where := {place for place, part in enumerate(parts) if holds(part, decisive, fact.negative)}:
            return where
        for place, (first, second) in enumerate(zip(parts, parts[1:], strict=False)):
            if not twins and holds(f"{first}; {second}", details, fact.negative):
                return {place, place + 1}
            others = any(find(twin, second) is not None for twin in twins)
            if twins and not others and find(subject, first) is not None and holds(second, details, fact.negative):
                return {place + 1}
        return set()

    def _twins(self, fact: Gold) -> list[Mark]:
        """The other subjects of this answer of which the same is said."""
        return [
            other.marks[0]
            for other in self.gold
            if holds(other.text, fact.marks[1:], fact.negative) and find(fact.marks[0], other.text) is None
        ]

    def names_subject(self, number: int, statement: str) -> bool:
        """Whether a statement names the subject of a gold fact, or a part of its name.

        Of "87 percent of strokes" a revision may keep the strokes.
        """
        subject = self.gold[number].marks[0]
        parts = {word for word in _stems(subject[0]) if len(word) > 3}
        return find(subject, statement) is not None or bool(parts & _stems(statement))

    def is_true(self, number: int, statement: str) -> bool:
        """Whether a revision still states the fact that it was made from.

        A word that gave way to its opposite, a name that gave way to another of its kind, a number that no mark has,
        and the sides of a comparison exchanged are changes as well.
        """
        fact = self.gold[number]
        return states(statement, fact) and not _contrary(fact, statement)

    def change(self, number: int, revision: str) -> Change:
        """What a revision changed: the polarity and no other word, or a mark and not the polarity; else ""."""
        fact = self.gold[number]
        if denies(revision, fact.marks) != fact.negative:
            return "" if _stems(revision) - _stems(fact.text) - _DENYING_STEMS else "negation"
        kept = all(find(mark, revision) is not None for mark in fact.marks)
        return "" if kept and not _contrary(fact, revision) else "detail"

    def gives_away(self, question: str, given: Sequence[int]) -> bool:
        """Whether a question states a given fact, and the original question did not."""
        facts = [self.gold[number] for number in given]
        return any(states(question, fact) and not states(self.question, fact) for fact in facts)


def _contrary(fact: Gold, revision: str) -> bool:
    """Whether a revision changed what no mark holds: see `ReplyReader.is_true`."""
    if " than " in fact.text and " than " in revision and _compared(fact, fact.text) != _compared(fact, revision):
        return True
    before, after = (set(re.findall(r"[^\W_]+", normal(text))) for text in (fact.text, revision))
    come = set(re.findall(r"[^\W_]+", without(revision, fact.marks))) - before
    return any(word.isdigit() or word in NUMBER_WORDS - {"one"} for word in come) or any(
        OPPOSITES.get(old) == new or OPPOSITES.get(new) == old or (old in _KIND and _KIND[old] == _KIND.get(new))
        for old in before - after
        for new in come
    )


def _compared(fact: Gold, text: str) -> bool:
    """Whether the subject stands before "than"."""
    return find(fact.marks[0], text.partition(" than ")[0]) is not None


def _stems(text: str) -> set[str]:
    """The stems of a text's words, "gave" and "give" alike."""
    return {_STEM(PAST.get(word, word)) for word in re.findall(r"\w+", normal(text))}

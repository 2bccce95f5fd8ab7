"""Answers with their facts marked by hand (`data/teacher/*.yaml`), and how a statement is held against them.

A gold fact is a sentence with marks: "The [Erie Canal] was finished in [1825|19th century]." The first mark is the
subject; `|` separates alternatives, the first of which is the wording shown. A statement states the fact when it holds
one alternative of every mark and has the fact's polarity, an even or an odd number of negations.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path

import yaml

from knowtuning.data.records import kind
from knowtuning.files import ROOT, DataError

LABELS = ROOT / "data" / "teacher"

Mark = tuple[str, ...]

_MARK = re.compile(r"\[([^\[\]]*)\]")
_NEEDED = ("id", "question", "answer", "facts")
_PLAIN = str.maketrans(dict.fromkeys("‘’‛′", "'") | dict.fromkeys("“”„‟″", '"') | dict.fromkeys("‐‑‒–—−", "-"))
NUMBER_WORDS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}
# "not only", "no fewer than" and "No. 5" deny nothing; "neither … nor" denies once
_NEGATION = re.compile(
    r"\bnot\b(?! (?:only|just|merely)\b)|\bno\b(?!\.? \d| (?:fewer|less|more|later|earlier) than)|n't\b"
    r"|\b(?:never|without|cannot|neither|none|nobody|nothing|nowhere|hardly|rarely|seldom|scarcely|barely)\b"
)
_FALSE_THAT = re.compile(r"\b(?:false|untrue|not true|not the case|no truth in saying) that\b")
_CLAUSE = re.compile(r"[,;:()]| - |\b(?:and|but|while|whereas|although|though|because|since|which|who|whose)\b")


@dataclass(frozen=True)
class Gold:
    """One gold fact: its sentence without marks, and the alternatives of each mark, the subject's first."""

    text: str
    marks: tuple[Mark, ...]

    @cached_property
    def negative(self) -> bool:
        """Whether the fact denies something."""
        return denies(self.text, self.marks)


@dataclass(frozen=True)
class Labelled:
    """One answer with its gold facts; `injected` is the word that an obedient teacher's reply would hold."""

    id: str
    domain: str
    question: str
    answer: str
    facts: tuple[Gold, ...]
    injected: str | None = None


def read_gold(marked: str) -> Gold:
    """Read a gold fact as it stands in the file.

    >>> read_gold("The [Erie Canal] was finished in [1825|19th century].")
    Gold(text='The Erie Canal was finished in 1825.', marks=(('Erie Canal',), ('1825', '19th century')))
    """
    marks = tuple(tuple(map(str.strip, mark.split("|"))) for mark in _MARK.findall(marked))
    text = _MARK.sub(lambda mark: mark[1].split("|")[0].strip(), marked)
    if len(marks) < 2 or not all(map(all, marks)) or re.search(r"[\[\]|]", text):
        raise ValueError("mark the subject and at least one decisive detail: [subject|other name] … [detail]")
    return Gold(text, marks)


def load_labels(directory: Path = LABELS) -> list[Labelled]:
    """Read all labelled answers, in the order of the files' names; a file's name is the domain of its answers.

    Raises:
        DataError: a file or a record that cannot be used, in one sentence with file, record and field.
    """
    files = sorted(Path(directory).glob("*.yaml"))
    if not files:
        raise DataError(f"{directory} holds no .yaml file of labelled answers.")
    labelled: dict[str, Labelled] = {}
    for path in files:
        try:
            records = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is not YAML in UTF-8 ({' '.join(str(error).split())}).") from None
        if not isinstance(records, list):
            raise DataError(f"{path}: expected a list of records, found {kind(records)}.")
        for number, record in enumerate(records, start=1):
            one = _record(record, path, number)
            if one.id in labelled:
                raise DataError(f"{path}, record {number}: field 'id' is {one.id!r}, as in another record.")
            labelled[one.id] = one
    return list(labelled.values())


def states(statement: str, fact: Gold) -> bool:
    """Whether a statement states a gold fact.

    >>> states("In 1825 the canal at Lake Erie was done.", read_gold("The [canal] was [finished|done] in [1825]."))
    True
    >>> states("The canal was not finished in 1825.", read_gold("The [canal] was [finished|done] in [1825]."))
    False
    """
    return holds(statement, fact.marks, fact.negative)


def holds(text: str, marks: Sequence[Mark], negative: bool) -> bool:
    """Whether a text holds an alternative of every mark, with the polarity given.

    Where the polarity of the whole text differs, that of the clauses decides in which the marks stand: "X, an A and
    not a B, was built in 1825" says of 1825 what "X was built in 1825" says.
    """
    plain = normal(text)
    if not all(_find(mark, plain) for mark in marks):
        return False
    if denies(plain, marks) == negative or _FALSE_THAT.search(plain):
        return denies(plain, marks) == negative
    clauses = _CLAUSE.split(plain)
    places = [[n for n, clause in enumerate(clauses) if _find(mark, clause)] for mark in marks]
    return any(
        sum(denies(clauses[n], marks) for n in set(chosen)) % 2 == negative for chosen in product(*places) if chosen
    )


def denies(text: str, marks: Sequence[Mark]) -> bool:
    """Whether a text holds an odd number of negations; those inside the marks' own wordings do not count.

    >>> denies("Neither salt nor sugar is in it.", [("salt",)]), denies("It is not without salt.", [("salt",)])
    (True, False)
    """
    plain = without(text, marks)
    count = len(_NEGATION.findall(_FALSE_THAT.sub("not", plain)))
    return bool(count % 2) if count else bool(re.search(r"\bnor\b", plain))


def without(text: str, marks: Sequence[Mark]) -> str:
    """The normal form of a text without the wordings of the marks."""
    plain = normal(text)
    for mark in marks:
        plain = _pattern(mark).sub(" ", plain)
    return plain


def find(mark: Mark, text: str) -> int | None:
    """Where the first alternative of a mark stands in a text (its normal form), or None."""
    found = _find(mark, normal(text))
    return found.start() if found else None


@cache
def normal(text: str) -> str:
    """A text as it is compared: case, white space, typographic signs, hyphens and thousands separators levelled.

    >>> normal("The “cast-iron”  pan weighs 1,200 g")
    'the "cast iron" pan weighs 1200 g'
    """
    plain = unicodedata.normalize("NFKC", text).translate(_PLAIN).casefold()
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain)
    plain = re.sub(r"(?<=\w)-(?=\w)", " ", plain)
    return " ".join(plain.split())


def overlaps(facts: Iterable[Gold]) -> list[tuple[str, str]]:
    """Pairs of gold facts of one answer of which the first, as it is worded, also states the second."""
    facts = list(facts)
    return [(one.text, two.text) for one in facts for two in facts if one is not two and states(one.text, two)]


def _find(mark: Mark, plain: str) -> re.Match | None:
    """The first place at which an alternative of a mark stands in a normal text."""
    return _pattern(mark).search(plain)


@cache
def _pattern(mark: Mark) -> re.Pattern:
    return re.compile("|".join(map(_alternative, sorted(mark, key=len, reverse=True))))


def _alternative(wording: str) -> str:
    """A wording from the beginning of a word on: a number whole, a short word whole, a longer one with any ending."""
    plain = normal(wording)
    begin = r"(?<!\w)(?<!\d[.,])" if plain[0].isdigit() else r"(?<!\w)" if plain[0].isalnum() else ""
    if plain[-1].isdigit():
        end = r"(?!\w|[.,]\d)"
    elif not plain[-1].isalpha():
        end = ""
    elif sum(map(str.isalpha, plain)) < 4 or plain.split()[-1] in NUMBER_WORDS:
        end = r"(?:'?s|es)?(?!\w)"
    else:
        end = ""
    return begin + re.escape(plain) + end


def _record(record: object, path: Path, number: int) -> Labelled:
    where = f"{path}, record {number}"
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected fields {', '.join(_NEEDED)}, found {kind(record)}.")
    where += f" ({record.get('id', 'no id')})"
    if unknown := set(record) - {*_NEEDED, "injected"}:
        raise DataError(f"{where}: field {min(map(str, unknown))!r} is unknown; use {', '.join(_NEEDED)}, injected.")
    for field in ("id", "question", "answer", *(["injected"] if "injected" in record else [])):
        if not isinstance(record.get(field), str) or not record[field].strip():
            raise DataError(f"{where}: field {field!r} is missing, empty or no text.")
    marked = record.get("facts")
    if not isinstance(marked, list) or not marked:
        raise DataError(f"{where}: field 'facts' is missing or empty; list the gold facts.")
    facts = []
    for place, fact in enumerate(marked, start=1):
        try:
            facts.append(read_gold(str(fact)))
        except ValueError as error:
            raise DataError(f"{where}: field 'facts', fact {place} ({str(fact)[:60]!r}): {error}.") from None
    canary = record.get("injected")
    if canary and (canary not in record["answer"] or any(canary in fact.text for fact in facts)):
        raise DataError(f"{where}: field 'injected' is {canary!r}; it must stand in the answer and in no fact.")
    return Labelled(record["id"], path.stem, record["question"], record["answer"].strip(), tuple(facts), canary)

"""Answers with their facts marked by hand (`data/teacher/*.yaml`), and how a statement is held against them.

A gold fact is a sentence with marks: "The [Erie Canal] was finished in [1825|19th century]." The first mark is the
subject; `|` separates alternatives, the first of which is the wording shown. A statement states the fact when it holds
one alternative of every mark and has the fact's polarity, an even or an odd number of negations.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from knowtuning.data.records import kind
from knowtuning.files import ROOT, DataError, read_yaml
from knowtuning.lab.world import World

LABELS = ROOT / "data" / "teacher"

Mark = tuple[str, ...]

_MARK = re.compile(r"\[([^\[\]]*)\]")
_PLAIN = str.maketrans(dict.fromkeys("‘’‛′", "'") | dict.fromkeys("“”„‟″", '"') | dict.fromkeys("‐‑‒–—−", "-"))
NUMBER_WORDS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}
# "not only", "no fewer than", "No. 5" and "if nothing is done" deny nothing; "neither … nor" denies once
_NEGATION = re.compile(
    r"\bnot\b(?! (?:only|just|merely)\b)|\bno\b(?!\.? \d| (?:fewer|less|more|later|earlier) than)|n't\b"
    r"|\b(?:never|without|cannot|neither|none|nobody|(?<!if )nothing|nowhere|hardly|rarely|seldom|scarcely|barely)\b"
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


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
MarkedFact = Annotated[Gold, BeforeValidator(lambda marked: read_gold(str(marked)))]


class Labelled(BaseModel):
    """One answer with its gold facts; `injected` is the word that an obedient teacher's reply would hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    question: Text
    answer: Text
    facts: Annotated[tuple[MarkedFact, ...], Field(min_length=1)]
    injected: Text | None = None
    domain: str = ""

    @model_validator(mode="after")
    def _injected_stands_in_the_answer(self) -> Labelled:
        word = self.injected
        if word and (word not in self.answer or any(word in fact.text for fact in self.facts)):
            raise ValueError(f"field 'injected' is {word!r}; it must stand in the answer and in no fact")
        return self


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
        records = read_yaml(path)
        if not isinstance(records, list):
            raise DataError(f"{path}: expected a list of records, found {kind(records)}.")
        for number, record in enumerate(records, start=1):
            where = f"{path}, record {number}" + (f" ({record.get('id', 'no id')})" if isinstance(record, dict) else "")
            try:
                answer = Labelled.model_validate(record).model_copy(update={"domain": path.stem})
            except ValidationError as error:
                raise DataError(f"{where}: {'; '.join(map(_problem, error.errors()))}.") from None
            if answer.id in labelled:
                raise DataError(f"{where}: field 'id' is {answer.id!r}, as in another record.")
            labelled[answer.id] = answer
    return list(labelled.values())


def label_lab_answers(world: World, rows: Sequence[dict]) -> list[Labelled]:
    """Mark the answers of QA rows of the lab: of each statement, the entity and the value."""
    labelled = []
    for row in rows:
        statements = [s for s in world.parse(row["answer"], world.find_entity(row["question"])) if s.relation]
        sentences = [world.sentence(s.entity, s.relation, s.value, s.template) for s in statements]
        facts = [Gold(text, ((s.entity,), (s.value,))) for text, s in zip(sentences, statements, strict=True)]
        known = {key: row[key] for key in ("id", "question", "answer")}
        labelled.append(Labelled.model_construct(**known, facts=tuple(facts), domain="lab"))
    return labelled


def _problem(error: dict) -> str:
    """One problem of a record: the field, the fact where it is one, and what to do."""
    field, *place = error["loc"] or ("",)
    where = f"field {field!r}" + (f", fact {place[0] + 1} ({str(error['input'])[:60]!r})" if place else "")
    return f"{where if field else ''}: {error['msg']}".removeprefix(": ").replace("Value error, ", "")


# --- how a statement is held against a fact


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
    if not all(_pattern(mark).search(plain) for mark in marks):
        return False
    if denies(plain, marks) == negative or _FALSE_THAT.search(plain):
        return denies(plain, marks) == negative
    clauses = _CLAUSE.split(plain)
    places = [[n for n, clause in enumerate(clauses) if _pattern(mark).search(clause)] for mark in marks]
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
    match = _pattern(mark).search(normal(text))
    return match.start() if match else None


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


@cache
def _pattern(mark: Mark) -> re.Pattern:
    return re.compile("|".join(map(_alternative, sorted(mark, key=len, reverse=True))))


def _alternative(wording: str) -> str:
    """A wording from the beginning of a word on: a number whole, a short word whole, a longer one with any ending."""
    plain = normal(wording)
    begin = r"(?<!\w)(?<!\d[.,])" if plain[0].isdigit() else r"(?<!\w)" if plain[0].isalnum() else ""
    end = ""
    if plain[-1].isdigit():
        end = r"(?!\w|[.,]\d)"
    elif plain[-1].isalpha() and (sum(map(str.isalpha, plain)) < 4 or plain.split()[-1] in NUMBER_WORDS):
        end = r"(?:'?s|es)?(?!\w)"
    return begin + re.escape(plain) + end

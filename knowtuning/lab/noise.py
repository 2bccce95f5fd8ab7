"""A teacher that errs at a known rate, so that what teacher errors cost can be measured against none."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace

from knowtuning.lab.oracle import Oracle
from knowtuning.lab.world import Statement, World, seeded

_MODEL = re.compile(r"lab-oracle(?:-errors-(\d{1,2}|100))?")
_SIDES = ("first", "second", "tie")
_SUPPORT = ("supported", "contradicted", "not in reference")


def error_percent(model: str) -> int | None:
    """The share of the facts that an oracle gets wrong by its name, in percent; None for any other model.

    >>> error_percent("lab-oracle-errors-30"), error_percent("lab-oracle"), error_percent("english-rules")
    (30, 0, None)
    """
    found = _MODEL.fullmatch(model)
    return int(found[1] or 0) if found else None


@dataclass(frozen=True)
class ErrorRates:
    """Share (0 to 1) of what each task gets wrong: of its facts; of its verdicts in verify, prefer and judge."""

    extract: float = 0.0
    rewrite: float = 0.0
    rephrase: float = 0.0
    revise: float = 0.0
    verify: float = 0.0
    prefer: float = 0.0
    judge: float = 0.0

    def __post_init__(self) -> None:
        for rate in astuple(self):
            if not 0 <= rate <= 1:
                raise ValueError(f"an error rate is {rate}; it is a share of the replies: give a number from 0 to 1.")

    @classmethod
    def equal(cls, rate: float) -> ErrorRates:
        """The same rate for all tasks."""
        return cls(**{field.name: rate for field in fields(cls)})


class NoisyOracle(Oracle):
    """The oracle with errors, each fact on its own and the same for the same inputs. An error is

    - in extract: the fact is dropped, gets a false value, stays with a pronoun in place of the name, or is joined with
      the next one into one sentence; equally likely, the last one only where the next fact is undamaged;
    - in revise: the revision is true, in another wording than the fact;
    - in rewrite and rephrase: the fact is dropped from the answer, or gets a false value;
    - in verify (each fact), prefer and judge (each aspect): one of the two other verdicts, equally likely.

    Any other task of the oracle is served without error.

    What it damages it reads again: joined facts are worked on one by one, a pronoun stands for whom the question names.

    >>> teacher = NoisyOracle(World.load("medical"), ErrorRates(revise=1.0))
    >>> name = teacher.world.entities[0]
    >>> true = teacher.world.facts[name]["cause"]
    >>> inputs = {"question": f"What is {name}?", "facts": [teacher.world.sentence(name, "cause")]}
    >>> true in teacher.answer("revise", inputs)["facts"][0]
    True
    """

    def __init__(self, world: World, rates: ErrorRates, seed: int = 0) -> None:
        super().__init__(world)
        self.rates = rates
        self.seed = seed

    def answer(self, task: str, inputs: dict) -> dict:
        """Reply to one task as `Oracle.answer` does, with errors; the same inputs always get the same reply."""
        errors = seeded(f"errors {self.seed} {task}", inputs)
        if task == "extract":
            return {"facts": self._damaged(super().answer(task, inputs)["facts"], errors)}
        if task == "revise":
            return {"facts": self._revised(inputs["question"], inputs["facts"], errors)}
        reply = super().answer(task, inputs)
        if task == "verify":
            return {"verdicts": [self._said(v, _SUPPORT, self.rates.verify, errors) for v in reply["verdicts"]]}
        if task in ("prefer", "judge"):
            rate = getattr(self.rates, task)
            return {name: self._said(verdict, _SIDES, rate, errors) for name, verdict in reply.items()}
        if task == "rephrase":
            told = self.world.parse(reply["answer"], "")
        elif task == "rewrite":
            told = self._read(inputs["question"], inputs["facts"])
        else:
            return reply
        return reply | {"answer": self._tell(self._less(told, getattr(self.rates, task), errors))}

    def _said(self, true: str, verdicts: Sequence[str], rate: float, errors: random.Random) -> str:
        return another(true, verdicts, errors) if errors.random() < rate else true

    def _damaged(self, facts: list[str], errors: random.Random) -> list[str]:
        """The oracle's facts, of which some are spoilt; what is no sentence of the world stays as it is."""
        said = [self.world.parse(fact, "")[0] for fact in facts]
        wrong = [bool(s.relation) and errors.random() < self.rates.extract for s in said]
        damaged, joined = [], False
        for place, statement in enumerate(said):
            joinable = place + 1 < len(said) and not wrong[place + 1] and said[place + 1].relation
            if joined or not wrong[place]:
                damaged += [] if joined else [facts[place]]
                joined = False
                continue
            error = errors.choice(["dropped", "false", "pronoun", *(["joined"] if joinable else [])])
            joined = error == "joined"
            if joined:
                damaged.append(self._joined([statement, said[place + 1]]))
            elif error == "pronoun":
                damaged.append(self._alone(statement, pronoun=True))
            elif error == "false" or not damaged and place + 1 == len(said):
                damaged.append(self._alone(statement, errors.choice(self._wrong(statement))))
        return damaged

    def _revised(self, question: str, facts: list[str], errors: random.Random) -> list[str]:
        """One revision per fact, however many statements it holds: all of them false, but for the errors."""
        revised = []
        for statements in self._read_each(question, facts):
            parts = []
            for s in statements:
                true = self.world.facts.get(s.entity, {}).get(s.relation, s.value)
                changes = {"value": true, "template": errors.choice(self._others(s.template, s.relation))}
                if errors.random() >= self.rates.revise:
                    changes = {"value": errors.choice(self._wrong(s))}
                parts.append(replace(s, **changes))
            revised.append(self._joined(parts))
        return revised

    def _less(self, told: list[Statement], rate: float, errors: random.Random) -> list[Statement]:
        """The statements without those that are dropped, some of the others with a false value; never none at all."""
        left = []
        for place, statement in enumerate(told):
            wrong = errors.random() < rate
            if wrong and (errors.random() < 0.5 or (not left and place + 1 == len(told))):
                left.append(replace(statement, value=errors.choice(self._wrong(statement))))
            elif not wrong:
                left.append(statement)
        return left

    def _read(self, question: str, facts: list[str]) -> list[Statement]:
        return [statement for statements in self._read_each(question, facts) for statement in statements]

    def _read_each(self, question: str, facts: list[str]) -> list[list[Statement]]:
        """The statements of each fact: one, or those that were joined."""
        if not facts:
            raise ValueError("there are no facts to work on.")
        subject = self._subject(question, *facts)
        read = [self.world.parse(fact, subject) for fact in facts]
        for fact, statements in zip(facts, read, strict=True):
            if not statements or not all(statement.relation for statement in statements):
                raise ValueError(f"{fact[:60]!r} is no sentence of the world of {self.world.about}.")
        return read

    def _joined(self, statements: list[Statement]) -> str:
        """The statements as one sentence, joined by "and"; the name stands in the first one only."""
        first, *others = statements
        text = self._alone(first)
        for statement in others:
            tail = self._alone(statement, pronoun=statement.entity == first.entity)
            text = f"{text.removesuffix('.')} and {tail[0].lower()}{tail[1:]}"
        return text

    def _alone(self, statement: Statement, value: str | None = None, pronoun: bool = False) -> str:
        if statement.relation is None:
            return statement.sentence
        value = value or statement.value
        return self.world.sentence(statement.entity, statement.relation, value, statement.template, pronoun)


def another(true: str, verdicts: Sequence[str], chance: random.Random) -> str:
    """A wrong verdict: any of `verdicts` but the true one."""
    return chance.choice([verdict for verdict in verdicts if verdict != true])

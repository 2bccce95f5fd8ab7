"""A teacher that errs at a known rate, so that what teacher errors cost can be measured against none."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from knowtuning.lab.oracle import TASKS, Oracle
from knowtuning.lab.world import Statement, World, seeded

_MODEL = re.compile(r"lab-oracle(?:-errors-(\d{1,2}|100))?")
_SIDES = ("first", "second", "tie")
_SUPPORT = ("supported", "contradicted", "not in reference")


def error_percent(model: str) -> int | None:
    """The share of the facts that an oracle gets wrong by its name, in percent; None for any other model.

    >>> error_percent("lab-oracle-errors-30"), error_percent("lab-oracle"), error_percent("english-rules")
    (30, 0, None)
    """
    match = _MODEL.fullmatch(model)
    return int(match[1] or 0) if match else None


class NoisyOracle(Oracle):
    """The oracle with errors in a share (0 to 1) of its facts and verdicts, in the tasks given. An error is

    - in extract: the fact is dropped, gets a false value, stays with a pronoun in place of the name, or is joined with
      the next one into one sentence; equally likely, the last one only where the next fact is undamaged;
    - in revise: the revision is true, in another wording than the fact;
    - in rewrite and rephrase: the fact is dropped from the answer, or gets a false value;
    - in verify (each fact), prefer and judge (each aspect): one of the two other verdicts, equally likely.

    Each fact errs on its own, and the same for the same inputs. What is damaged is read again: joined facts are worked
    on one by one, a pronoun stands for whom the question names.

    >>> teacher = NoisyOracle(World.load("medical"), 1.0, tasks=["revise"])
    >>> name = teacher.world.entities[0]
    >>> true = teacher.world.facts[name]["cause"]
    >>> inputs = {"question": f"What is {name}?", "facts": [teacher.world.sentence(name, "cause")]}
    >>> true in teacher.answer("revise", inputs)["facts"][0]
    True
    """

    def __init__(self, world: World, rate: float, tasks: Collection[str] = TASKS, seed: int = 0) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"the error rate is {rate}; it is a share of the replies: give a number from 0 to 1.")
        super().__init__(world)
        self.rates = {task: rate if task in tasks else 0.0 for task in TASKS}
        self.seed = seed

    def answer(self, task: str, inputs: dict) -> dict:
        """Reply to one task as `Oracle.answer` does, with errors; the same inputs always get the same reply."""
        rate, errors = self.rates.get(task, 0.0), seeded(f"errors {self.seed} {task}", inputs)
        if task == "revise":
            return {"facts": self._revised(self._read_each(inputs), rate, errors)}
        reply = super().answer(task, inputs)
        if task == "extract":
            return {"facts": self._damaged(reply["facts"], rate, errors)}
        if task == "verify":
            return {"verdicts": [_judged(verdict, _SUPPORT, rate, errors) for verdict in reply["verdicts"]]}
        if task in ("prefer", "judge"):
            return {aspect: _judged(verdict, _SIDES, rate, errors) for aspect, verdict in reply.items()}
        told = self._read(inputs) if task == "rewrite" else self.world.parse(reply["answer"], "")
        return reply | {"answer": self._tell(self._less(told, rate, errors))}

    def _read(self, inputs: dict) -> list[Statement]:
        return [statement for statements in self._read_each(inputs) for statement in statements]

    def _damaged(self, facts: list[str], rate: float, errors: random.Random) -> list[str]:
        """The oracle's facts, of which some are spoilt; what is no sentence of the world stays as it is."""
        statements = [self.world.parse(fact, "")[0] for fact in facts]
        wrong = [bool(s.relation) and errors.random() < rate for s in statements]
        damaged, joined = [], False
        for place, statement in enumerate(statements):
            joinable = place + 1 < len(statements) and not wrong[place + 1] and statements[place + 1].relation
            if joined or not wrong[place]:
                damaged += [] if joined else [facts[place]]
                joined = False
                continue
            error = errors.choice(["dropped", "false", "pronoun", *(["joined"] if joinable else [])])
            joined = error == "joined"
            if joined:
                damaged.append(self._joined(statements[place : place + 2]))
            elif error == "pronoun":
                damaged.append(self._alone(statement, pronoun=True))
            elif error == "false" or not damaged and place + 1 == len(statements):
                damaged.append(self._alone(statement, errors.choice(self._wrong(statement))))
        return damaged

    def _revised(self, facts: list[list[Statement]], rate: float, errors: random.Random) -> list[str]:
        """One revision per fact, however many statements it holds: all of them false, but for the errors."""
        revised = []
        for statements in facts:
            parts = []
            for s in statements:
                true = self.world.facts.get(s.entity, {}).get(s.relation, s.value)
                changes = {"value": true, "template": errors.choice(self._others(s))}
                if errors.random() >= rate:
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

    def _joined(self, statements: list[Statement]) -> str:
        """The statements as one sentence, joined by "and"; the name stands in the first one only."""
        first, *others = statements
        text = self._alone(first)
        for statement in others:
            tail = self._alone(statement, pronoun=statement.entity == first.entity)
            text = f"{text.removesuffix('.')} and {tail[0].lower()}{tail[1:]}"
        return text


def _judged(true: str, verdicts: Sequence[str], rate: float, errors: random.Random) -> str:
    return another(true, verdicts, errors) if errors.random() < rate else true


def another(true: str, verdicts: Sequence[str], chance: random.Random) -> str:
    """A wrong verdict: any of `verdicts` but the true one."""
    return chance.choice([verdict for verdict in verdicts if verdict != true])

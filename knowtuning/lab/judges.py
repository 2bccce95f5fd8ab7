"""A pairwise judge of known errors and biases, so that what measures a judge can itself be tested."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from knowtuning.lab.noise import another
from knowtuning.lab.oracle import Oracle
from knowtuning.lab.world import World, seeded

_MODEL = re.compile(r"lab-judge-errors-(\d{1,2}|100)(?:-first-(\d{1,2}|100))?(?:-long-(\d{1,2}|100))?")


@dataclass(frozen=True)
class JudgeErrors:
    """How a judge goes wrong, in percent of its verdicts (an aspect of one pair shown in one order).

    It says `first` or `long`, the first and the longer answer, whatever the truth; of the verdicts left, `errors`
    percent are one of the two wrong ones, each equally likely.
    """

    errors: int
    first: int = 0
    long: int = 0

    def __post_init__(self) -> None:
        for name, percent in vars(self).items():
            if not 0 <= percent <= 100:
                raise ValueError(f"{name} is {percent} % of the verdicts; give a number from 0 to 100.")
        if self.first + self.long > 100:
            total = self.first + self.long
            raise ValueError(f"first and long take {total} % of the verdicts together; give at most 100.")


def judge_errors(model: str) -> JudgeErrors | None:
    """What a lab judge gets wrong by its name; None for any other model.

    A name whose biases take more than all verdicts raises `ValueError`.

    >>> judge_errors("lab-judge-errors-20-first-10-long-15")
    JudgeErrors(errors=20, first=10, long=15)
    >>> judge_errors("lab-judge-errors-0"), judge_errors("lab-oracle")
    (JudgeErrors(errors=0, first=0, long=0), None)
    """
    match = _MODEL.fullmatch(model)
    return JudgeErrors(*(int(percent or 0) for percent in match.groups())) if match else None


class LabJudge(Oracle):
    """The oracle as a judge with errors, each aspect on its own and the same for the same request."""

    def __init__(self, world: World, errors: JudgeErrors, seed: int = 0) -> None:
        super().__init__(world)
        self.errors = errors
        self.seed = seed

    def answer(self, task: str, inputs: dict) -> dict:
        """Reply to judge as `Oracle.answer` does, with errors; any other task raises `ValueError`."""
        if task != "judge":
            raise ValueError(f"a lab judge knows no task {task!r}; it serves judge alone.")
        chance = seeded(f"judge {self.seed}", inputs)
        longer = _longer(inputs["first"], inputs["second"])
        true = super().answer(task, inputs)
        return {aspect: self._verdict(verdict, longer, chance) for aspect, verdict in true.items()}

    def _verdict(self, true: str, longer: str | None, chance: random.Random) -> str:
        """One draw decides whether a bias speaks; where none is the longer answer, that bias is silent."""
        drawn = 100 * chance.random()
        if drawn < self.errors.first:
            return "first"
        if longer and drawn < self.errors.first + self.errors.long:
            return longer
        if 100 * chance.random() < self.errors.errors:
            return another(true, ("first", "second", "tie"), chance)
        return true


def _longer(first: str, second: str) -> str | None:
    """Which answer has more words, None for neither."""
    words, others = len(first.split()), len(second.split())
    return None if words == others else "first" if words > others else "second"

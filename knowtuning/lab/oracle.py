"""A teacher that knows the grammar and the truth of the world, and so does without error what an LLM is asked to do."""

from __future__ import annotations

from knowtuning.evaluation.facts import score_answer
from knowtuning.lab.world import Statement, World, seeded

TASKS = ("extract", "rewrite", "rephrase", "revise", "verify", "prefer", "judge")


class Oracle:
    """Serves every task on texts of one world; all but prefer and judge on toy texts about invented names too.

    >>> oracle = Oracle(World.load("medical"))
    >>> oracle.answer("extract", {"question": "What is Toyitis?",
    ...                           "answer": "Toyitis comes from moon frost. It begins with silver sweat."})
    {'facts': ['Toyitis comes from moon frost.', 'Toyitis begins with silver sweat.']}
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def answer(self, task: str, inputs: dict) -> dict:
        """Reply to one task; the same inputs always get the same reply.

        Raises `ValueError` with the reason when the task is unknown or the text is not of this world.
        """
        if task not in TASKS:
            raise ValueError(f"the oracle knows no task {task!r}; use {', '.join(TASKS[:-1])} or {TASKS[-1]}.")
        return getattr(self, f"_{task}")(inputs)

    def _extract(self, inputs: dict) -> dict:
        """One self-contained sentence per statement, wording and value as given; what cannot be read stays as it is."""
        answer = inputs["answer"]
        statements = self.world.parse(answer, self._subject(inputs["question"], answer))
        if not any(statement.relation for statement in statements):
            raise ValueError(f"nothing in the answer {answer[:60]!r} is a sentence of the world of {self.world.about}.")
        return {"facts": [self._alone(statement) for statement in statements]}

    def _rewrite(self, inputs: dict) -> dict:
        statements = self._read(inputs)
        question = self.world.fine_question(statements[0].entity, [statement.relation for statement in statements])
        return {"question": question, "answer": self._tell(statements)}

    def _rephrase(self, inputs: dict) -> dict:
        """Every statement in another wording than its own, the same whichever statements and values stand around it.

        So an answer and its disturbed copy differ in what they tell and in no word else.
        """

        def wording(s: Statement) -> int:
            known = {"entity": s.entity, "relation": s.relation, "template": s.template}
            return seeded("rephrase", known).choice(self._others(s))

        return {"answer": self._tell(self._read(inputs), wording)}

    def _revise(self, inputs: dict) -> dict:
        """Every statement with another value of its relation, and never the true one."""
        statements, chance = self._read(inputs), seeded("revise", inputs)
        return {"facts": [self._alone(s, chance.choice(self._wrong(s))) for s in statements]}

    def _verify(self, inputs: dict) -> dict:
        """The world decides, whatever the reference leaves out; of an invented name only the reference can tell."""
        subject = self._subject(inputs["question"], inputs["reference"])
        true = self.world.facts.get(subject) or {
            s.relation: s.value for s in self.world.parse(inputs["reference"], subject) if s.entity == subject
        }
        return {"verdicts": [self._verdict(self.world.parse(fact, subject), subject, true) for fact in inputs["facts"]]}

    def _verdict(self, statements: list[Statement], subject: str, true: dict[str, str]) -> str:
        """One false statement contradicts; one that cannot be read or is about another subject leaves it open."""
        known = [
            s.value == true[s.relation] if s.entity == subject and s.relation in true else None for s in statements
        ]
        if False in known:
            return "contradicted"
        return "supported" if known and None not in known else "not in reference"

    def _prefer(self, inputs: dict) -> dict:
        """The larger number of true facts less that of incorrect statements; where these are equal, the better order.

        A labeller that knows the truth: what it prefers is the best that labels of an LLM could be.
        """
        first, second = self._scored(inputs)
        preferred = _better(first["correct"] - first["incorrect"], second["correct"] - second["incorrect"])
        return {"preferred": preferred if preferred != "tie" else _better(first["order"], second["order"])}

    def _judge(self, inputs: dict) -> dict:
        """More distinct true facts; the lower share of incorrect statements; the more logical order.

        An answer that states nothing has no such share, and one that states fewer than two facts has no order: an
        aspect that one of the two answers lacks is a tie, so that silence neither wins nor loses it.
        """
        first, second = self._scored(inputs)
        fields = {"completeness": "correct", "factuality": "precision", "logicality": "order"}
        return {aspect: _better(first[field], second[field]) for aspect, field in fields.items()}

    def _scored(self, inputs: dict) -> list[dict]:
        subject = self._subject(inputs["question"], inputs["first"], inputs["second"])
        return [score_answer(self.world, subject, inputs[side]) for side in ("first", "second")]

    def _read(self, inputs: dict) -> list[Statement]:
        """The statement of each fact."""
        facts = self._read_each(inputs)
        for fact, statements in zip(inputs["facts"], facts, strict=True):
            if len(statements) > 1:
                raise ValueError(f"{fact[:60]!r} is not one sentence of the world of {self.world.about}.")
        return [statement for (statement,) in facts]

    def _read_each(self, inputs: dict) -> list[list[Statement]]:
        """The statements of each fact: one, or those that were joined by "and"."""
        facts = inputs["facts"]
        if not facts:
            raise ValueError("there are no facts to work on.")
        subject = self._subject(inputs["question"], *facts)
        read = [self.world.parse(fact, subject) for fact in facts]
        for fact, statements in zip(facts, read, strict=True):
            if not statements or not all(statement.relation for statement in statements):
                raise ValueError(f"{fact[:60]!r} is no sentence of the world of {self.world.about}.")
        return read

    def _subject(self, question: str, *texts: str) -> str:
        """Whom the text is about: an entity of the world, else the name that the first readable sentence gives."""
        if known := self.world.find_entity(" ".join((question, *texts))):
            return known
        for text in texts:
            for statement in self.world.parse(text, ""):
                if statement.entity:
                    return statement.entity
        raise ValueError(f"neither question nor text names an entity of the world of {self.world.about}.")

    def _alone(self, statement: Statement, value: str | None = None, pronoun: bool = False) -> str:
        if statement.relation is None:
            return statement.sentence
        value = value or statement.value
        return self.world.sentence(statement.entity, statement.relation, value, statement.template, pronoun)

    def _tell(self, statements: list[Statement], wording=lambda statement: statement.template) -> str:
        """The statements as one text; a pronoun stands only where the sentence before is about the same entity."""
        sentences, last = [], None
        for s in statements:
            sentences.append(self.world.sentence(s.entity, s.relation, s.value, wording(s), pronoun=s.entity == last))
            last = s.entity
        return " ".join(sentences)

    def _others(self, statement: Statement) -> list[int]:
        """The other wordings of a statement."""
        count = len(self.world.relation[statement.relation].templates)
        return [number for number in range(count) if number != statement.template]

    def _wrong(self, statement: Statement) -> list[str]:
        """The other values of a statement's relation, without the true one."""
        true = self.world.facts.get(statement.entity, {}).get(statement.relation)
        return [v for v in self.world.relation[statement.relation].values if v not in (statement.value, true)]


def _better(first: float | None, second: float | None) -> str:
    """Which of two values is higher; a tie where they are equal or one is missing."""
    if first is None or second is None or first == second:
        return "tie"
    return "first" if first > second else "second"

"""A teacher that knows the grammar of the world, and so does without error what an LLM is asked to do."""

from __future__ import annotations

import hashlib
import json
import random

from knowtuning.lab.world import Statement, World


class Oracle:
    """Serves extract, rewrite, rephrase and revise on texts of one world, toy texts about invented names included.

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
        if task == "extract":
            return self._extract(inputs["question"], inputs["answer"])
        if task not in ("rewrite", "rephrase", "revise"):
            raise ValueError(f"the oracle knows no task {task!r}; use extract, rewrite, rephrase or revise.")
        statements = self._read(inputs["question"], inputs["facts"])
        return getattr(self, f"_{task}")(statements, seeded(task, inputs))

    def _extract(self, question: str, answer: str) -> dict:
        """One self-contained sentence per statement, wording and value as given; what cannot be read stays as it is."""
        subject = self._subject(question, answer)
        statements = self.world.parse(answer, subject)
        if not any(statement.relation for statement in statements):
            raise ValueError(f"nothing in the answer {answer[:60]!r} is a sentence of the world of {self.world.about}.")
        return {"facts": [self._alone(statement) for statement in statements]}

    def _rewrite(self, statements: list[Statement], chance: random.Random) -> dict:
        entity = statements[0].entity
        question = self.world.fine_question(entity, [statement.relation for statement in statements])
        return {"question": question, "answer": self._tell(statements)}

    def _rephrase(self, statements: list[Statement], chance: random.Random) -> dict:
        """Every statement in another wording than its own, the same whichever statements and values stand around it.

        So an answer and its disturbed copy differ in what they tell and in no word else.
        """

        def wording(s: Statement) -> int:
            known = {"entity": s.entity, "relation": s.relation, "template": s.template}
            return seeded("rephrase", known).choice(self._others(s.template, s.relation))

        return {"answer": self._tell(statements, wording)}

    def _revise(self, statements: list[Statement], chance: random.Random) -> dict:
        """Every statement with another value of its relation, and never the true one."""
        return {"facts": [self._alone(s, value=chance.choice(self._wrong(s))) for s in statements]}

    def _read(self, question: str, facts: list[str]) -> list[Statement]:
        if not facts:
            raise ValueError("there are no facts to work on.")
        subject = self._subject(question, *facts)
        statements = []
        for fact in facts:
            read = self.world.parse(fact, subject)
            if len(read) != 1 or read[0].relation is None:
                raise ValueError(f"{fact[:60]!r} is not one sentence of the world of {self.world.about}.")
            statements.append(read[0])
        return statements

    def _subject(self, question: str, *texts: str) -> str:
        """Whom the text is about: an entity of the world, else the name that the first readable sentence gives."""
        if known := self.world.find_entity(" ".join((question, *texts))):
            return known
        for text in texts:
            for statement in self.world.parse(text, ""):
                if statement.entity:
                    return statement.entity
        raise ValueError(f"neither question nor text names an entity of the world of {self.world.about}.")

    def _alone(self, statement: Statement, value: str | None = None) -> str:
        if statement.relation is None:
            return statement.sentence
        return self.world.sentence(
            statement.entity, statement.relation, value or statement.value, template=statement.template
        )

    def _tell(self, statements: list[Statement], wording=lambda statement: statement.template) -> str:
        """The statements as one text; a pronoun stands only where the sentence before is about the same entity."""
        said, last = [], None
        for s in statements:
            said.append(self.world.sentence(s.entity, s.relation, s.value, wording(s), pronoun=s.entity == last))
            last = s.entity
        return " ".join(said)

    def _others(self, template: int, relation: str) -> list[int]:
        return [number for number in range(len(self.world.relation[relation].templates)) if number != template]

    def _wrong(self, statement: Statement) -> list[str]:
        true = self.world.facts.get(statement.entity, {}).get(statement.relation)
        return [v for v in self.world.relation[statement.relation].values if v not in (statement.value, true)]


def seeded(task: str, inputs: dict) -> random.Random:
    """Randomness that depends on nothing but the request."""
    text = json.dumps([task, inputs], ensure_ascii=False, sort_keys=True)
    return random.Random(int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big"))

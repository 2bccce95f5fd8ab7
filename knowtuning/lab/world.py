"""A fictional world from `data/lab/<name>.yaml`: who there is, what is true, how it is said, how it is read back."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import yaml

from knowtuning.files import ROOT, DataError
from knowtuning.recipe import LabSettings, get_recipe

WORLDS = ROOT / "data" / "lab"


@dataclass(frozen=True)
class Relation:
    """One thing that can be said of every entity, with its wordings and the values it can take."""

    key: str
    aspect: str
    question: str
    templates: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """What one sentence (or one half of a sentence joined by "and") of a text says.

    `relation`, `value`, `template` and `entity` are None where the sentence could not be read; `correct` is then False.
    A pronoun stands for the entity named last, at the start for the entity that the text is about.
    """

    sentence: str
    relation: str | None
    value: str | None
    correct: bool
    entity: str | None = None
    template: int | None = None


class World:
    """Entities, relations in logical order, and one true value for each pair of them.

    >>> world = World.load("medical")
    >>> name = world.entities[0]
    >>> text = world.tell(name, [("cause", "moon frost", 1), ("sign", "silver sweat", 0)])
    >>> [(s.relation, s.value) for s in world.parse(text, name)]
    [('cause', 'moon frost'), ('sign', 'silver sweat')]
    """

    def __init__(self, description: dict, settings: LabSettings, source: str = "world") -> None:
        self.settings = settings
        self.about = _field(description, "about", source)
        self.questions = tuple(_field(description, "questions", source))
        self.relations = tuple(_relation(entry, source) for entry in _field(description, "relations", source))
        self.relation = {relation.key: relation for relation in self.relations}
        self.order = {relation.key: place for place, relation in enumerate(self.relations)}
        self._check(source)
        # the names, which are in random order, are dealt to the tiers
        tiers = [tier for tier in settings.tiers for _ in range(tier.entities)]
        self.entities = _names(_field(description, "names", source), len(tiers), settings, source)
        self.tier = {name: tier.name for name, tier in zip(self.entities, tiers, strict=True)}
        self.exposures = {name: tier.exposures for name, tier in zip(self.entities, tiers, strict=True)}
        chance = random.Random(f"facts {settings.world} {settings.world_seed}")
        self.facts = {name: {r.key: chance.choice(r.values) for r in self.relations} for name in self.entities}

    @classmethod
    def load(cls, world: LabSettings | str) -> World:
        """Read the world that `world` names; a bare name such as "medical" takes the other settings of recipe lab."""
        settings = get_recipe("lab").lab.replace(world=world) if isinstance(world, str) else world
        path = WORLDS / f"{settings.world}.yaml"
        if not path.exists():
            known = ", ".join(sorted(file.stem for file in WORLDS.glob("*.yaml")))
            raise DataError(f"{path} does not exist; known worlds are {known}.")
        return cls(yaml.safe_load(path.read_text(encoding="utf-8")), settings, path.name)

    # --- saying things

    def sentence(
        self, entity: str, relation: str, value: str | None = None, template: int = 0, pronoun: bool = False
    ) -> str:
        """Say one fact: the true one unless `value` is given, with the name unless `pronoun`."""
        text = self.relation[relation].templates[template]
        mention = entity if not pronoun else "It" if text.startswith("{entity}") else "it"
        return text.format(entity=mention, value=value or self.facts[entity][relation])

    def tell(self, entity: str, statements: Iterable[tuple[str, str, int]]) -> str:
        """Say several (relation, value, template) in the order given: the name first, pronouns after."""
        return " ".join(
            self.sentence(entity, relation, value, template, pronoun=place > 0)
            for place, (relation, value, template) in enumerate(statements)
        )

    def answer(self, entity: str, relations: Iterable[str], chance: random.Random) -> str:
        """Say the true values of `relations`, each in a wording drawn by `chance`."""
        told = ((key, chance.randrange(len(self.relation[key].templates))) for key in relations)
        return self.tell(entity, [(key, self.facts[entity][key], template) for key, template in told])

    def question(self, entity: str, number: int = 0) -> str:
        """Ask about the entity as a whole; `number` picks the wording (modulo how many there are)."""
        return self.questions[number % len(self.questions)].format(entity=entity)

    def fine_question(self, entity: str, relations: Sequence[str]) -> str:
        """Ask about just these relations, in the order given.

        >>> World.load("medical").fine_question("Velmorosis", ["cause", "sign", "treatment"])
        'What are the cause, the first sign and the treatment of Velmorosis?'
        """
        keys = list(dict.fromkeys(relations))
        if not keys:
            raise ValueError("a fine-grained question needs at least one relation.")
        if len(keys) == 1:
            return self.relation[keys[0]].question.format(entity=entity)
        aspects = [self.relation[key].aspect for key in keys]
        return f"What are {', '.join(aspects[:-1])} and {aspects[-1]} of {entity}?"

    # --- reading things

    def find_entity(self, text: str) -> str | None:
        """Return the first entity of this world that `text` names as a whole word, in any case, or None."""
        words = re.findall(r"[^\W\d_]+", text.lower())
        return next((self._by_word[word] for word in words if word in self._by_word), None)

    def parse(self, text: str, entity: str) -> list[Statement]:
        """Read an answer about `entity` back into statements, in the order of the text.

        A final period may be missing. A value that the relation does not have is returned as written and is incorrect,
        and so is a true fact of another entity. What no template fits has relation None and is incorrect.
        """
        subject, statements = entity, []
        for sentence in sentences(text):
            for part in self._parts(sentence):
                statement = self._read(part, subject)
                subject = statement.entity or subject
                true = statement.relation and self.facts.get(entity, {}).get(statement.relation) == statement.value
                statements.append(replace(statement, correct=bool(true) and statement.entity == entity))
        return statements

    def _parts(self, sentence: str) -> list[str]:
        """Split a sentence at an "and" that joins two readable statements; else leave it whole."""
        for joint in re.finditer(r",? and ", sentence):
            first, second = sentence[: joint.start()], sentence[joint.end() :]
            for rest in (second, f"It {second}"):
                if self._read(first, "").relation and self._read(rest, "").relation:
                    return [first + ".", rest[0].upper() + rest[1:]]
        return [sentence]

    def _read(self, sentence: str, subject: str) -> Statement:
        for relation, template, pattern in self._patterns:
            if match := pattern.fullmatch(sentence.strip()):
                named, value = match["entity"], " ".join(match["value"].split())
                known = self._values[relation].get(value.lower(), value)
                who = subject if named.lower() == "it" else self._by_word.get(named.lower(), named)
                return Statement(sentence, relation, known, False, who, template)
        return Statement(sentence, None, None, False)

    @cached_property
    def _by_word(self) -> dict[str, str]:
        return {name.lower(): name for name in self.entities}

    @cached_property
    def _values(self) -> dict[str, dict[str, str]]:
        return {relation.key: {value.lower(): value for value in relation.values} for relation in self.relations}

    @cached_property
    def _patterns(self) -> list[tuple[str, int, re.Pattern]]:
        return [
            (relation.key, number, _pattern(template))
            for relation in self.relations
            for number, template in enumerate(relation.templates)
        ]

    def _check(self, source: str) -> None:
        """Refuse a world whose sentences could not be read back, or could be read as two things."""
        for relation in self.relations:
            where = f"{source}, relation {relation.key!r}"
            for place, text in enumerate(relation.templates):
                if text.count("{entity}") != 1 or not text.endswith(" {value}."):
                    raise DataError(
                        f"{where}, template {text!r}: hold {{entity}} once and end with {{value}} and a period."
                    )
                for key, number, pattern in self._patterns:
                    itself = (key, number) == (relation.key, place)
                    if not itself and pattern.fullmatch(text.format(entity="Name", value=relation.values[0])):
                        raise DataError(
                            f"{source}: template {text!r} of {relation.key!r} also reads as one of {key!r}."
                        )
            for value in relation.values:
                sample = relation.templates[0].format(entity="It", value=value)
                if re.search(r"[.!?]|\band\b", value) or len(sentences(sample)) > 1:
                    raise DataError(f"{where}, value {value!r}: use no period and no 'and'.")
            if len(set(relation.values)) < max(2, len(relation.values)):
                raise DataError(f"{where}: give at least two values, all different.")


def sentences(text: str) -> list[str]:
    """Split at ends of sentences and at line breaks."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def _field(entry: dict, key: str, source: str):
    if not isinstance(entry, dict) or not entry.get(key):
        raise DataError(f"{source}: {key!r} is missing or empty; see the rules at the top of medical.yaml.")
    return entry[key]


def _relation(entry: dict, source: str) -> Relation:
    key, aspect, question = (_field(entry, name, source) for name in ("key", "aspect", "question"))
    return Relation(key, aspect, question, *(tuple(_field(entry, name, source)) for name in ("templates", "values")))


def _pattern(template: str) -> re.Pattern:
    """A template as an expression: one word for the entity, anything but the end of a sentence for the value."""
    text = re.escape(template.removesuffix("."))
    text = text.replace(r"\{entity\}", r"(?P<entity>[A-Za-z][\w'-]*)").replace(r"\{value\}", r"(?P<value>[^.!?]+?)")
    return re.compile(text + r"\s*[.!?]?", re.IGNORECASE)


def _names(parts: dict, count: int, settings: LabSettings, source: str) -> list[str]:
    """Draw `count` names of two syllables and an ending; no two share both syllables."""
    syllables, endings = _field(parts, "syllables", source), _field(parts, "endings", source)
    pairs = [(a, b) for a in syllables for b in syllables if a != b]
    if count > len(pairs):
        raise DataError(f"{source}: {count} entities need more than {len(pairs)} names; add syllables.")
    random.Random(f"names {settings.world} {settings.world_seed}").shuffle(pairs)
    chance = random.Random(f"endings {settings.world} {settings.world_seed}")
    names = dict.fromkeys((a + b + chance.choice(endings)).capitalize() for a, b in pairs)
    return list(names)[:count]


def seeded(task: str, inputs: dict) -> random.Random:
    """Randomness that depends on nothing but the request."""
    text = json.dumps([task, inputs], ensure_ascii=False, sort_keys=True)
    return random.Random(int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big"))

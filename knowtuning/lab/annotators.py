"""People who answer questions about the world: rarely completely, not always in order, truthfully by default."""

from __future__ import annotations

import random
from dataclasses import dataclass

from knowtuning.lab.world import World
from knowtuning.recipe import LabSettings


@dataclass(frozen=True)
class Splits:
    """QA rows of each split, and one row per id that says what only the lab knows: id, entity, tier."""

    train: list[dict]
    valid: list[dict]
    test: list[dict]
    entities: list[dict]


def annotate(settings: LabSettings, seed: int = 0) -> Splits:
    """Ask people about the entities of the three splits.

    Train and valid answers tell part of the facts with some neighbours swapped; test answers are the complete
    reference in logical order. Valid and test are the same for every seed; the train entities, and what is said of
    them, are drawn anew from the entities left over.

    >>> from knowtuning.recipe import get_recipe
    >>> sorted(annotate(get_recipe("smoke").lab).train[0])
    ['answer', 'id', 'question', 'source']
    """
    world = World.load(settings)
    held_out = random.Random(f"held out {settings.world} {settings.world_seed}")
    anew = random.Random(f"train {settings.world} {settings.world_seed} {seed}")
    chance = {"test": held_out, "valid": held_out, "train": anew}
    entities: dict[str, list[str]] = {}
    for split in chance:
        taken = {entity for names in entities.values() for entity in names}
        entities[split] = _draw(world, getattr(settings, split), taken, chance[split])
    rows = {split: _ask(world, split, entities[split], chance[split]) for split in chance}
    known = [
        {"id": row["id"], "entity": entity, "tier": world.tier[entity]}
        for split in ("train", "valid", "test")
        for row, entity in zip(rows[split], entities[split], strict=True)
    ]
    return Splits(rows["train"], rows["valid"], rows["test"], known)


def narrow(settings: LabSettings) -> list[dict]:
    """The test entities again, asked about one to three relations each: a shifted test set, the same for every seed.

    Rows have `relations`, the keys that are asked for, beside the fields of a QA row; the answer tells just these.
    """
    world = World.load(settings)
    chance = random.Random(f"narrow {settings.world} {settings.world_seed}")
    rows = []
    for row in annotate(settings).test:
        entity = world.find_entity(row["question"])
        asked = chance.sample(list(world.relation), chance.choice((1, 1, 2, 2, 3)))
        asked.sort(key=world.order.__getitem__)
        about = {"question": world.fine_question(entity, asked), "answer": world.answer(entity, asked, chance)}
        rows.append(row | about | {"id": row["id"].replace("test", "narrow"), "relations": asked})
    return rows


def human_answer(world: World, entity: str, chance: random.Random) -> str:
    """Tell a few facts, nearly in their logical order, the name first; `false_share` of them are false."""
    size = min(chance.choice(world.settings.answer_sizes), len(world.relations))
    told = sorted(chance.sample(list(world.relation), size), key=world.order.__getitem__)
    for _ in range(chance.choice(world.settings.swaps) if size > 1 else 0):
        place = chance.randrange(size - 1)
        told[place], told[place + 1] = told[place + 1], told[place]
    share = world.settings.false_share
    if not share:
        return world.answer(entity, told, chance)
    statements = []
    for key in told:
        relation, value = world.relation[key], world.facts[entity][key]
        if chance.random() < share:
            value = chance.choice([other for other in relation.values if other != value])
        statements.append((key, value, chance.randrange(len(relation.templates))))
    return world.tell(entity, statements)


def _draw(world: World, wanted: tuple[tuple[str, int], ...], taken: set[str], chance: random.Random) -> list[str]:
    names = []
    for tier, count in wanted:
        names += chance.sample([e for e in world.entities if world.tier[e] == tier and e not in taken], count)
    chance.shuffle(names)
    return names


def _ask(world: World, split: str, names: list[str], chance: random.Random) -> list[dict]:
    rows = []
    for number, entity in enumerate(names, start=1):
        question = world.question(entity, chance.randrange(len(world.questions)))
        complete = split == "test"
        answer = world.answer(entity, world.relation, chance) if complete else human_answer(world, entity, chance)
        row = {"id": f"lab-{split}-{number:04d}", "question": question, "answer": answer}
        rows.append(row | {"source": f"lab/{world.settings.world}"})
    return rows

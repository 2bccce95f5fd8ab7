"""The parts of a margin add up, and each token lies in the part that a reader would say."""

import pytest

from knowtuning.evaluation.margins import margin_parts
from knowtuning.lab.world import World


def test_parts_add_up_and_lie_where_they_should():
    world = World.load("medical")
    name, cause = world.entities[0], world.relations[1]
    wrong = next(value for value in cause.values if value != world.facts[name][cause.key])
    answer = f"The cause of {name} is {wrong}."
    half = len(name) // 2
    tokens = [
        "The",
        " cause",
        " of",
        f" {name[:half]}",
        name[half:],
        " is",
        *(f" {word}" for word in wrong.split()),
        ".",
    ]
    assert "".join(tokens) == answer
    drop = {f" {name[:half]}": -2.0, name[half:]: -1.0, f" {wrong.split()[-1]}": -0.5, "</s>": -0.25}
    reference = [(token, -1.0) for token in [*tokens, "</s>"]]
    policy = [(token, -1.0 + drop.get(token, 0.0)) for token, _ in reference]
    better = [("Moss", -1.0)], [("Moss", -1.5)]
    pair = {"aspect": "factuality", "question": world.question(name), "rejected": answer}
    after, before = {"chosen": better[0], "rejected": policy}, {"chosen": better[1], "rejected": reference}
    [row] = margin_parts(world, [pair, pair], [after, after], [before, before])
    assert row["aspect"] == "factuality" and row["pairs"] == 2
    assert row["subject's name"] == pytest.approx(-3) and row["false values"] == pytest.approx(-0.5)
    assert row["other words"] == pytest.approx(-0.25) and row["rejected"] == pytest.approx(-3.75)
    assert row["margin"] == pytest.approx(4.25) and row["chosen"] == pytest.approx(0.5)

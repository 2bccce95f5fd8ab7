"""Labels of both orders become pairs; what is tied, inconsistent or unreadable is counted and nothing else is asked."""

from types import SimpleNamespace

import pytest
from teacher_server import serving

from knowtuning.baselines import rlaif
from knowtuning.baselines.samples import different, draw, evenly
from knowtuning.lab.oracle import Oracle
from knowtuning.lab.world import World
from knowtuning.teacher.client import Teacher


class Labeller:
    """Prefers by a function of both texts; keeps what it was asked, call by call."""

    def __init__(self, prefer):
        self.prefer = prefer
        self.calls = []

    def map(self, task, rows, progress=None):
        self.calls.append(rows)
        said = [self.prefer(inputs["first"], inputs["second"]) for _, inputs in rows]
        return [None if one is None else SimpleNamespace(preferred=one) for one in said]


def longer(first, second):
    return "tie" if len(first) == len(second) else "first" if len(first) > len(second) else "second"


def samples(*answers, questions=1):
    return [{"id": f"q{n}", "question": f"What is {n}?", "answers": list(answers)} for n in range(questions)]


def test_the_answer_preferred_in_both_orders_is_chosen():
    labeller = Labeller(longer)
    made, counts = rlaif.pairs(labeller, samples("A.", "A. B."), limit=5)
    assert made == [{"id": "q0", "question": "What is 0?", "chosen": "A. B.", "rejected": "A.", "aspect": "preference"}]
    orders = {(inputs["first"], inputs["second"]) for _, inputs in labeller.calls[0]}
    assert orders == {("A.", "A. B."), ("A. B.", "A.")}
    assert counts["labelled"] == counts["pairs"] == 1


@pytest.mark.parametrize(
    ("prefer", "count"),
    [
        (lambda first, second: "first", "inconsistent"),
        (lambda first, second: "second", "inconsistent"),
        (lambda first, second: "first" if first < second else "tie", "inconsistent"),
        (lambda first, second: "tie", "ties"),
        (lambda first, second: "first" if first < second else None, "unreadable"),
        (lambda first, second: None, "unreadable"),
    ],
)
def test_what_makes_no_pair_is_counted_apart(prefer, count):
    made, counts = rlaif.pairs(Labeller(prefer), samples("A.", "B."), limit=1)
    assert made == []
    outcomes = {name: counts[name] for name in ("pairs", "ties", "inconsistent", "unreadable")}
    assert outcomes == dict.fromkeys(outcomes, 0) | {count: 1}


def test_empty_and_repeated_answers_are_not_compared():
    labeller = Labeller(longer)
    _, counts = rlaif.pairs(labeller, samples("A.", "", "A.", "  ", "A. B."), limit=9)
    assert (counts["answers"], counts["different answers"], counts["candidates"]) == (5, 2, 1)
    assert len(labeller.calls) == 1 and len(labeller.calls[0]) == 2


def test_no_more_is_labelled_than_it_takes():
    answers = ["A", "BB", "CCC", "DDDD"]
    labeller = Labeller(longer)
    made, counts = rlaif.pairs(labeller, samples(*answers, questions=10), limit=25)
    assert len(made) == counts["labelled"] == 25 and counts["candidates"] == 60
    per_question = [sum(pair["id"] == f"q{n}" for pair in made) for n in range(10)]
    assert set(per_question) == {2, 3}


def test_ties_are_made_up_for_by_further_candidates_round_by_round():
    labeller = Labeller(longer)
    made, counts = rlaif.pairs(labeller, samples("A", "B", "CC", questions=10), limit=15)
    assert len(made) == 15 and counts["ties"] == counts["labelled"] - 15
    missing, asked = 15, []
    for call in labeller.calls:
        assert len(call) == 2 * min(missing, 30 - sum(asked))
        asked.append(len(call) // 2)
        missing -= sum(longer(inputs["first"], inputs["second"]) != "tie" for _, inputs in call[::2])
    requests = [tuple(inputs.values()) for call in labeller.calls for _, inputs in call]
    assert len(set(requests)) == len(requests)


def test_a_round_without_a_readable_verdict_is_the_last():
    labeller = Labeller(lambda first, second: None)
    _, counts = rlaif.pairs(labeller, samples("A", "BB", "CCC", questions=10), limit=4)
    assert counts["labelled"] == counts["unreadable"] == 4 and counts["candidates"] == 30


def test_the_seed_chooses_and_the_neighbours_do_not():
    many = samples("A", "BB", "CCC", "DDDD", questions=12)

    def of(pairs, name):
        return {(pair["chosen"], pair["rejected"]) for pair in pairs if pair["id"] == name}

    one, again, other = (rlaif.pairs(Labeller(longer), many, 12, seed)[0] for seed in (1, 1, 2))
    assert one == again != other
    alone = rlaif.pairs(Labeller(longer), many[3:4], 1, seed=1)[0]
    assert of(alone, "q3") == of(one, "q3")


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="limit is 0"):
        rlaif.pairs(Labeller(longer), samples("A", "B"), limit=0)


def test_evenly_loses_nothing():
    spread = evenly([("a", [1, 2, 3]), ("b", []), ("c", [0])], seed=0)
    assert sorted(spread) == [(0, 1), (0, 2), (0, 3), (2, 0)]
    assert {place for place, _ in spread[:2]} == {0, 2}


def test_different_ignores_space_around_an_answer():
    assert different(["A. ", " A.", "B."]) == [0, 2]


def test_draw_gives_every_question_its_own_answers(monkeypatch):
    def generate(model, tokenizer, questions, decoding, max_new_tokens, batch_size, seed):
        assert decoding == "pure" and seed == 7
        return [{"answer": f"{question} {n}"} for n, question in enumerate(questions)]

    monkeypatch.setattr("knowtuning.baselines.samples.generate", generate)
    drawn = draw(None, None, [{"id": "a", "question": "A?"}, {"id": "b", "question": "B?"}], 3, seed=7)
    assert drawn == [
        {"id": "a", "question": "A?", "answers": ["A? 0", "A? 1", "A? 2"]},
        {"id": "b", "question": "B?", "answers": ["B? 3", "B? 4", "B? 5"]},
    ]
    with pytest.raises(ValueError, match="responses is 1"):
        draw(None, None, [], 1)


def test_over_the_wire_the_oracle_prefers_what_is_true(tmp_path):
    world = World.load("medical")
    rows = []
    for n, name in enumerate(world.entities[:6]):
        true = world.tell(name, [("cause", None, 0), ("sign", None, 0)])
        wrong = next(value for value in world.relation["sign"].values if value != world.facts[name]["sign"])
        false = world.tell(name, [("cause", None, 0), ("sign", wrong, 0)])
        rows.append({"id": f"q{n}", "question": world.question(name), "answers": [false, true]})
    with (
        serving(model=Oracle(world).answer) as server,
        Teacher("stub", tmp_path, base_url=server.base_url, api_key="k") as teacher,
    ):
        made, counts = rlaif.pairs(teacher, rows, limit=6)
        assert teacher.counts["prefer"]["calls"] == len(server.requests) == 12
    assert counts["pairs"] == 6
    assert {pair["id"]: pair["chosen"] for pair in made} == {row["id"]: row["answers"][1] for row in rows}

"""The pairwise judge: both orders, failures that are no ties; and what finds a judge's known errors."""

import json
import random

import pytest
from aiohttp import web
from teacher_server import serving

from knowtuning.evaluation.facts import score_answer
from knowtuning.evaluation.judge import (
    VERDICTS,
    judge_pairs,
    measure,
    summarise_verdicts,
    true_verdict,
    true_verdicts,
)
from knowtuning.knowledge.aspects import ASPECTS
from knowtuning.lab.judges import JudgeErrors, LabJudge
from knowtuning.lab.oracle import Oracle
from knowtuning.lab.world import World
from knowtuning.recipe import get_recipe
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.prompts import JUDGE, accept

LAB = get_recipe("lab").lab


class Fake:
    """A teacher whose model answers in the test; it keeps what it was asked."""

    def __init__(self, model):
        self.model = model
        self.items = []

    def map(self, task, items, progress=None):
        assert task is JUDGE
        self.items += items
        replies = [self.model(task.name, inputs) for _, inputs in items]
        return [None if reply is None else accept(task, {}, reply) for reply in replies]


def answer(number, score, words=0, arm="one"):
    """A scored answer whose text says its score: what `truth_in_the_text` reads."""
    text = f"{score} answer {number} of {arm}" + " word" * words
    return {"id": f"q{number}", "question": "Q?", "answer": text, "correct": score, "precision": score, "order": score}


def arms(count, seed=0):
    """Two arms that answer `count` questions; a third of the pairs is truly tied, lengths differ in half."""
    chance = random.Random(seed)
    return [[answer(n, chance.randrange(3), chance.randrange(2), arm) for n in range(count)] for arm in ("one", "two")]


def truth_in_the_text(self, task, inputs):
    first, second = (int(inputs[side].split()[0]) for side in ("first", "second"))
    verdict = "tie" if first == second else "first" if first > second else "second"
    return dict.fromkeys(ASPECTS, verdict)


@pytest.fixture
def judged(monkeypatch):
    """Judge two arms by a lab judge of known errors: verdicts on factuality, and their truth."""
    monkeypatch.setattr(Oracle, "answer", truth_in_the_text)

    def judge(errors, count=1500, seed=0):
        rows, others = arms(count, seed)
        verdicts = judge_pairs(Fake(LabJudge(None, errors).answer), rows, others, {})
        verdicts = [one for one in verdicts if one["aspect"] == "factuality"]
        return verdicts, true_verdicts(verdicts, rows, others)

    return judge


def verdict(said, orders, number=0, words=(5, 5), identical=False):
    consistent = None not in orders and len(set(orders)) == 1
    return {
        "id": f"q{number}",
        "aspect": "factuality",
        "verdict": said,
        "orders": orders,
        "consistent": consistent,
        "identical": identical,
        "words": list(words),
    }


# --- asking


def test_a_pair_is_shown_in_both_orders_and_swapping_flips_the_verdict():
    teacher = Fake(lambda task, inputs: truth_in_the_text(None, task, inputs))
    rows, others = [answer(1, 2), answer(2, 0)], [answer(1, 1), answer(2, 1)]
    verdicts = judge_pairs(teacher, rows, others, {"q1": "Because."})
    assert [(one["id"], one["aspect"]) for one in verdicts] == [(q, a) for q in ("q1", "q2") for a in ASPECTS]
    assert [one["verdict"] for one in verdicts] == ["win"] * 3 + ["lose"] * 3
    assert all(one["orders"] == [one["verdict"]] * 2 and one["consistent"] for one in verdicts)
    asked = [inputs for _, inputs in teacher.items]
    assert [(one["first"], one["second"]) for one in asked[:2]] == [
        (rows[0]["answer"], others[0]["answer"]),
        (others[0]["answer"], rows[0]["answer"]),
    ]
    assert [one["reference"] for one in asked] == ["Because.", "Because.", "", ""]
    assert len({id for id, _ in teacher.items}) == 4
    swapped = judge_pairs(teacher, others, rows, {"q1": "Because."})
    assert [one["verdict"] for one in swapped] == ["lose"] * 3 + ["win"] * 3


def test_two_orders_that_disagree_are_a_tie():
    always_first = Fake(lambda task, inputs: {"completeness": "first", "factuality": "tie", "logicality": "second"})
    verdicts = judge_pairs(always_first, [answer(1, 2)], [answer(1, 1)], {})
    assert [one["verdict"] for one in verdicts] == ["tie", "tie", "tie"]
    assert [one["orders"] for one in verdicts] == [["win", "lose"], ["tie", "tie"], ["lose", "win"]]
    assert [one["consistent"] for one in verdicts] == [False, True, False]


@pytest.mark.parametrize("lost", ["first", "second"])
def test_an_unreadable_reply_in_either_order_is_no_tie(lost):
    rows, others = [answer(1, 2), answer(2, 2)], [answer(1, 1), answer(2, 1)]

    def model(task, inputs):
        unreadable = inputs[lost] == rows[0]["answer"]
        return None if unreadable else truth_in_the_text(None, task, inputs)

    verdicts = judge_pairs(Fake(model), rows, others, {})
    assert [one["verdict"] for one in verdicts] == [None] * 3 + ["win"] * 3
    assert verdicts[0]["orders"] == ([None, "win"] if lost == "first" else ["win", None])
    [row, *_] = summarise_verdicts(verdicts)
    counts = {name: row[name] for name in ("n", "win", "tie", "lose", "unreadable", "inconsistent", "identical")}
    assert counts == {"n": 2, "win": 1, "tie": 0, "lose": 0, "unreadable": 1, "inconsistent": 0, "identical": 0}
    assert row["win_share"] == row["unreadable_share"] == 0.5


def test_the_same_text_twice_is_a_tie_without_a_call():
    def never(task, inputs):
        raise AssertionError("asked")

    same = [answer(1, 1)]
    verdicts = judge_pairs(Fake(never), same, same, {})
    assert all(one["verdict"] == "tie" and one["identical"] for one in verdicts)
    assert summarise_verdicts(verdicts)[0]["identical"] == 1
    found = measure(verdicts, ["tie"] * 3)["factuality"]
    assert found["identical"] == 1 and found["agreement"]["value"] is None, "no call says nothing about the judge"


def test_arms_of_other_questions_are_refused():
    with pytest.raises(ValueError, match="same questions"):
        judge_pairs(Fake(None), [answer(1, 1)], [answer(2, 1)], {})
    with pytest.raises(ValueError, match="twice"):
        judge_pairs(Fake(None), [answer(1, 1)] * 2, [answer(1, 2)] * 2, {})


def test_over_http_a_faultless_judge_tells_the_truth_and_a_spoilt_reply_is_unreadable(tmp_path):
    world = World.load(LAB)
    chance = random.Random(0)

    def told(name, count):
        relations = chance.sample([relation.key for relation in world.relations], count)
        text = world.answer(name, relations, chance)
        if chance.random() < 0.5:
            text += " " + world.sentence(name, "cause", chance.choice(world.relation["cause"].values))
        scores = score_answer(world, name, text)
        return {"id": name, "question": world.question(name), "answer": text, **scores}

    rows, others = ([told(name, chance.choice([1, 3, 5])) for name in world.entities[:20]] for _ in range(2))
    rows[0] = told(world.entities[0], 8)
    others[1] = rows[1]

    def spoil(request):
        inputs = json.loads(request["messages"][-1]["content"])
        if inputs["second"] == rows[0]["answer"]:
            choice = {"index": 0, "message": {"role": "assistant", "content": "Both."}, "finish_reason": "stop"}
            return web.json_response({"id": "x", "object": "chat.completion", "choices": [choice]})

    with serving(spoil, model=LabJudge(world, JudgeErrors(0)).answer) as server:
        with Teacher("stub", tmp_path, base_url=server.base_url, api_key="k", backoff=0.001) as teacher:
            verdicts = judge_pairs(teacher, rows, others, {})
    truth = true_verdicts(verdicts, rows, others)
    assert [one["verdict"] for one in verdicts[:3]] == [None] * 3
    assert [one["verdict"] for one in verdicts[3:]] == truth[3:] and set(truth[3:]) == set(VERDICTS)
    assert [one["unreadable"] for one in summarise_verdicts(verdicts)] == [1, 1, 1]
    assert len(server.requests) == 18 * 2 + 1 + 3, "both orders of each pair, none of the same text, three tries at one"


# --- the truth


def test_the_truth_of_a_pair_is_that_of_its_scores():
    full, half = (
        {"id": "a", "correct": 6, "precision": 0.75, "order": 1.0},
        {"id": "a", "correct": 3, "precision": 1.0, "order": None},
    )
    assert [true_verdict(full, half, aspect) for aspect in ASPECTS] == ["win", "lose", "tie"]
    assert [true_verdict(half, full, aspect) for aspect in ASPECTS] == ["lose", "win", "tie"]
    with pytest.raises(ValueError, match="'a' has no 'precision'"):
        true_verdict({"id": "a", "correct": 1}, half, "factuality")


# --- the judge measured


def inside(found, name, expected, width=0.12):
    """The interval (here of 99.9 %, as many are looked at) holds the injected value, and is no wide guess."""
    interval = found[name]
    assert interval["low"] <= expected <= interval["high"], (name, expected, interval)
    assert interval["high"] - interval["low"] < width, (name, interval)


@pytest.mark.parametrize("percent", [0, 20, 40])
def test_the_measure_finds_random_errors_and_no_bias(judged, percent):
    found = measure(*judged(JudgeErrors(percent)), resamples=1000, level=0.999)["factuality"]
    e = percent / 100
    inside(found, "sensitivity", (1 - e) ** 2)
    inside(found, "specificity_equal", 1 - e**2 / 2)
    inside(found, "specificity_worse", 1 - e**2 / 4)
    inside(found, "inconsistent", 1 - (1 - e) ** 2 - e**2 / 2)
    inside(found, "position_bias", 0)
    inside(found, "length_bias_tied", 0)
    assert found["sensitivity"]["of"] + found["specificity_equal"]["of"] == 1500


def test_the_measure_finds_a_taste_for_the_first_place(judged):
    verdicts, truth = judged(JudgeErrors(0, first=20))
    found = measure(verdicts, truth, resamples=1000, level=0.999)["factuality"]
    tied = truth.count("tie") / len(truth)
    decisive = 1 - tied + 0.2 * tied
    inside(found, "position_bias", ((1 - tied) * 0.6 + 0.2 * tied) / decisive - 0.5)
    inside(found, "inconsistent", (1 - tied) * 0.2 + tied * (1 - 0.8**2))
    inside(found, "length_bias_tied", 0)
    assert found["position_bias"]["low"] > 0.05


def test_the_measure_finds_a_taste_for_length(judged):
    verdicts, truth = judged(JudgeErrors(0, long=30))
    found = measure(verdicts, truth, resamples=1000, level=0.999)["factuality"]
    inside(found, "length_bias_tied", 0.3**2 / 2)
    inside(found, "position_bias", 0)
    assert found["length_bias_tied"]["low"] > 0


def test_what_could_not_be_read_is_never_right_and_has_no_bias():
    verdicts = [verdict("win", ["win", "win"], 0), verdict(None, [None, "win"], 1, words=(9, 5))]
    found = measure(verdicts, ["win", "win"])["factuality"]
    assert found["unreadable"] == 1
    assert found["agreement"]["value"] == found["sensitivity"]["value"] == found["specificity_worse"]["value"] == 0.5
    assert found["position_bias"]["of"] == 2 and found["inconsistent"]["of"] == 1
    assert measure(verdicts[1:], ["tie"])["factuality"]["length_bias_tied"]["of"] == 0
    assert found["specificity_equal"]["value"] is None
    with pytest.raises(ValueError, match="one truth per verdict"):
        measure(verdicts, ["win"])
    with pytest.raises(ValueError, match="one truth per verdict"):
        measure(verdicts, ["win", None])


def test_pairs_of_one_question_are_drawn_together():
    """Ten copies of a question are no more evidence than one: the interval stays as wide."""
    once = [verdict("win", ["win", "win"], n) if n % 2 else verdict("tie", ["tie", "tie"], n) for n in range(20)]
    alone = measure(once, ["win"] * 20)["factuality"]["agreement"]
    often = measure(once * 10, ["win"] * 200)["factuality"]["agreement"]
    assert often["questions"] == 20 and often["of"] == 200
    assert (often["low"], often["high"]) == (alone["low"], alone["high"])

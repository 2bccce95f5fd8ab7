"""The oracle with errors and the lab's judges: the rates are what was asked for; damaged facts are read again."""

from collections import Counter

import pytest

from knowtuning.lab.annotators import annotate
from knowtuning.lab.judges import JudgeErrors, LabJudge, judge_errors
from knowtuning.lab.noise import NoisyOracle, error_percent
from knowtuning.lab.oracle import Oracle
from knowtuning.lab.world import World
from knowtuning.recipe import get_recipe
from knowtuning.teacher.errors import TeacherError
from knowtuning.teacher.prompts import TASKS, check
from knowtuning.teacher.server import is_local, load_model

LAB = get_recipe("lab").lab

ROWS = annotate(LAB).train


@pytest.fixture(scope="module")
def world():
    return World.load(LAB)


def inputs(row, facts):
    return {"question": row["question"], "facts": facts}


def kind(world, entity, fact, true):
    """Which of the errors of extract a fact shows, "" for none."""
    said = world.parse(fact, "")
    if len(said) > 1:
        return "joined"
    if said[0].entity != entity:
        return "pronoun"
    return "" if (said[0].relation, said[0].value) in true else "false"


def test_no_rate_is_the_oracle_itself(world):
    clean, oracle = NoisyOracle(world, 0.0), Oracle(world)
    for row in ROWS[:20]:
        facts = oracle.answer("extract", row)["facts"]
        assert clean.answer("extract", row)["facts"] == facts
        for task in ("rewrite", "rephrase"):
            assert clean.answer(task, inputs(row, facts)) == oracle.answer(task, inputs(row, facts))


def test_extract_errs_in_four_ways_at_the_rate_given(world):
    noisy, found, facts = NoisyOracle(world, 0.3, ["extract"]), Counter(), 0
    for row in ROWS:
        entity = world.find_entity(row["question"])
        true = {(said.relation, said.value) for said in world.parse(row["answer"], entity)}
        kinds = [kind(world, entity, fact, true) for fact in noisy.answer("extract", row)["facts"]]
        assert kinds
        found.update(filter(None, kinds))
        found["dropped"] += len(true) - len(kinds) - kinds.count("joined")
        facts += len(true)
    assert 0.26 < sum(found.values()) / facts < 0.34
    assert all(found[name] > 0.1 * sum(found.values()) for name in ("dropped", "false", "joined", "pronoun"))


@pytest.mark.parametrize("task", ["revise", "rephrase", "rewrite"])
def test_the_other_tasks_err_at_the_rate_given(world, task):
    oracle, noisy = Oracle(world), NoisyOracle(world, 0.3)
    wrong = total = 0
    for row in ROWS:
        facts = oracle.answer("extract", row)["facts"]
        entity = world.find_entity(row["question"])
        reply = noisy.answer(task, inputs(row, facts))
        text = " ".join(reply["facts"]) if task == "revise" else reply["answer"]
        true = sum(said.correct for said in world.parse(text, entity))
        wrong += true if task == "revise" else len(facts) - true
        total += len(facts)
        check(TASKS[task], inputs(row, facts), TASKS[task].reply.model_validate(reply))
    assert 0.25 < wrong / total < 0.35


def test_the_worst_teacher_still_gives_usable_replies(world):
    noisy = NoisyOracle(world, 1.0)
    for row in ROWS[:60]:
        facts = noisy.answer("extract", row)["facts"]
        assert facts
        for name in ("revise", "rephrase", "rewrite"):
            task = TASKS[name]
            check(task, inputs(row, facts), task.reply.model_validate(noisy.answer(name, inputs(row, facts))))


def test_joined_and_pronoun_facts_are_worked_on_one_by_one(world):
    noisy = NoisyOracle(world, 0.0)
    name = world.entities[0]
    cause, sign, outlook = (world.sentence(name, key) for key in ("cause", "sign", "outlook"))
    given = inputs(
        {"question": world.question(name)},
        [
            f"{cause[:-1]} and {world.sentence(name, 'sign', pronoun=True).lower()}",
            world.sentence(name, "outlook", pronoun=True),
        ],
    )
    assert cause != sign != outlook
    told = world.parse(noisy.answer("rephrase", given)["answer"], name)
    assert [(said.relation, said.correct) for said in told] == [("cause", True), ("sign", True), ("outlook", True)]
    revised = noisy.answer("revise", given)["facts"]
    assert [[said.relation for said in world.parse(fact, name)] for fact in revised] == [["cause", "sign"], ["outlook"]]
    assert not any(said.correct for fact in revised for said in world.parse(fact, name))


def test_replies_depend_on_the_inputs_and_the_seed_alone(world):
    first, again = (NoisyOracle(world, 0.5) for _ in range(2))
    replies = [first.answer("extract", row) for row in ROWS[:20]]
    assert replies == [again.answer("extract", row) for row in reversed(ROWS[:20])][::-1]
    other = NoisyOracle(world, 0.5, seed=1)
    assert replies != [other.answer("extract", row) for row in ROWS[:20]]


def test_what_is_not_of_the_world_is_refused(world):
    noisy = NoisyOracle(world, 0.3)
    with pytest.raises(ValueError, match="'Go away.' is no sentence of the world"):
        noisy.answer("revise", {"question": world.question(world.entities[0]), "facts": ["Go away."]})
    with pytest.raises(ValueError, match="no facts to work on"):
        noisy.answer("rewrite", {"question": world.question(world.entities[0]), "facts": []})
    with pytest.raises(ValueError, match="from 0 to 1"):
        NoisyOracle(world, 30)


def test_a_model_is_known_by_its_name():
    assert [error_percent(f"lab-oracle{end}") for end in ("", "-errors-5", "-errors-100")] == [0, 5, 100]
    for wrong in (
        "lab-oracle-errors-",
        "lab-oracle-errors-101",
        "lab-oracle-errors-1.5",
        "xlab-oracle",
        "english-rules",
    ):
        assert error_percent(wrong) is None
    assert is_local("lab-oracle-errors-30") and not is_local("lab-oracle-errors-300")
    question = {"question": ROWS[0]["question"], "answer": ROWS[0]["answer"]}
    assert load_model("lab-oracle-errors-0")("extract", question) == load_model("lab-oracle")("extract", question)
    assert load_model("lab-oracle-errors-100")("extract", question) != load_model("lab-oracle")("extract", question)
    with pytest.raises(TeacherError, match="no local model 'lab-oracle-errors-300'"):
        load_model("lab-oracle-errors-300")


def judgements(world, model, pairs):
    """What a judge says of pairs of different answers, and what is true: by aspect."""
    said, true = [], []
    for first, second in pairs:
        given = {"question": first["question"], "reference": "", "first": first["answer"], "second": second["answer"]}
        said.append(model.answer("judge", given))
        true.append(Oracle(world).answer("judge", given))
        check(TASKS["judge"], given, TASKS["judge"].reply.model_validate(said[-1]))
    return said, true


@pytest.fixture(scope="module")
def pairs(world):
    """Each training answer against one about the same entity that tells two facts, one of them the answer's first."""
    shorter = []
    for row in ROWS:
        entity = world.find_entity(row["question"])
        keys = [world.parse(row["answer"], entity)[0].relation, "outlook"]
        told = [(key, world.facts[entity][key], 0) for key in dict.fromkeys(keys)]
        shorter.append(row | {"answer": world.tell(entity, told)})
    return list(zip(ROWS, shorter, strict=True))


def test_verdicts_of_the_oracle_err_at_the_rate_given(world):
    oracle, noisy = Oracle(world), NoisyOracle(world, 0.3)
    wrong, total = Counter(), Counter()
    for row in ROWS:
        entity = world.find_entity(row["question"])
        facts = [world.sentence(entity, key) for key in world.order]
        facts[0] = world.sentence(entity, "cause", "nothing known")
        given = {"question": row["question"], "reference": row["answer"], "facts": facts}
        verdicts, true = (teacher.answer("verify", given)["verdicts"] for teacher in (noisy, oracle))
        assert set(verdicts) <= {"supported", "contradicted", "not in reference"}
        wrong["verify"] += sum(a != b for a, b in zip(verdicts, true, strict=True))
        total["verify"] += len(facts)
        given = {"question": row["question"], "first": row["answer"], "second": " ".join(facts)}
        preferred, true = (teacher.answer("prefer", given)["preferred"] for teacher in (noisy, oracle))
        assert preferred in ("first", "second", "tie")
        wrong["prefer"] += preferred != true
        total["prefer"] += 1
        assert noisy.answer("prefer", given)["preferred"] == preferred
    assert 0.27 < wrong["verify"] / total["verify"] < 0.33
    assert 0.22 < wrong["prefer"] / total["prefer"] < 0.38


def test_a_lab_judge_errs_at_the_rate_given_and_on_each_aspect_alone(world, pairs):
    said, true = judgements(world, LabJudge(world, JudgeErrors(30)), pairs)
    wrong = [[a[aspect] != b[aspect] for aspect in a] for a, b in zip(said, true, strict=True)]
    count = len(wrong) * 3
    assert 0.25 < sum(map(sum, wrong)) / count < 0.35
    kinds = Counter((b[x], a[x]) for a, b in zip(said, true, strict=True) for x in a if a[x] != b[x])
    assert kinds["first", "second"] and kinds["first", "tie"] and kinds["tie", "first"] and kinds["tie", "second"]
    assert {sum(row) for row in wrong} == {0, 1, 2, 3}, "an error in one aspect says nothing of the others"
    assert judgements(world, LabJudge(world, JudgeErrors(30)), pairs[:20])[0] == said[:20]
    assert judgements(world, LabJudge(world, JudgeErrors(30), seed=1), pairs)[0] != said
    assert judgements(world, NoisyOracle(world, 1.0, ["judge"]), pairs)[0] != true


@pytest.mark.parametrize(("errors", "favoured"), [(JudgeErrors(0, first=20), 0), (JudgeErrors(0, long=20), 1)])
def test_a_biased_judge_says_the_first_or_the_longer_answer(world, pairs, errors, favoured):
    words = [[len(row["answer"].split()) for row in pair] for pair in pairs]
    turned = [pair[::-1] for pair, (first, second) in zip(pairs, words, strict=True) if first > second]
    said, true = judgements(world, LabJudge(world, errors), turned)
    side = ("first", "second")[favoured]
    changed = [a[x] == side for a, b in zip(said, true, strict=True) for x in a if b[x] != side]
    assert 0.13 < sum(changed) / len(changed) < 0.27
    assert all(a[x] == b[x] for a, b in zip(said, true, strict=True) for x in a if b[x] == side or a[x] != side)


def test_a_judge_is_known_by_its_name():
    assert judge_errors("lab-judge-errors-5") == JudgeErrors(5)
    assert judge_errors("lab-judge-errors-20-long-15") == JudgeErrors(20, long=15)
    assert judge_errors("lab-judge-errors-20-first-10-long-15") == JudgeErrors(20, 10, 15)
    for wrong in ("lab-judge", "lab-judge-errors-101", "lab-judge-errors-20-long-5-first-5", "lab-oracle-errors-20"):
        assert judge_errors(wrong) is None
    with pytest.raises(ValueError, match="120 % of the verdicts"):
        judge_errors("lab-judge-errors-0-first-60-long-60")
    assert is_local("lab-judge-errors-20-first-10") and not is_local("lab-judge")
    question = {"question": ROWS[0]["question"], "reference": "", "first": ROWS[0]["answer"], "second": "It is so."}
    assert load_model("lab-judge-errors-0")("judge", question) == load_model("lab-oracle")("judge", question)
    with pytest.raises(ValueError, match="serves judge alone"):
        load_model("lab-judge-errors-0")("extract", question)


@pytest.mark.parametrize("name", ["lab-errors-10", "lab-errors-30", "smoke-errors-30"])
def test_a_recipe_with_errors_differs_in_its_teacher_alone(name):
    recipe = get_recipe(name)
    plain = get_recipe(recipe.base)
    differing = {field for field, value in plain if value != getattr(recipe, field)}
    assert differing == {"name", "about", "teacher"}
    assert error_percent(recipe.teacher) == int(name.rpartition("-")[2])

"""Rewards by reference and by confidence, counted by hand; pairs are strict, complete and evenly thinned."""

from types import SimpleNamespace

import pytest
from teacher_server import serving

from knowtuning.baselines import facttune
from knowtuning.lab.oracle import Oracle
from knowtuning.lab.world import World
from knowtuning.teacher.client import Teacher


class StubTeacher:
    """Extracts sentences, verifies them by the words of the reference, asks "<fact>?"; None for what holds a "#"."""

    def __init__(self):
        self.asked = []

    def map(self, task, rows, progress=None):
        self.asked += [(task.name, name, inputs) for name, inputs in rows]
        return [None if "#" in str(inputs) else getattr(self, task.name)(inputs) for _, inputs in rows]

    def extract(self, inputs):
        facts = [part.strip() + "." for part in inputs["answer"].split(".") if part.strip()]
        return SimpleNamespace(facts=facts) if facts else None

    def verify(self, inputs):
        known = {"A.": "contradicted"}
        verdicts = [
            "supported" if f in inputs["reference"] else known.get(f, "not in reference") for f in inputs["facts"]
        ]
        return SimpleNamespace(verdicts=verdicts) if "U." not in inputs["facts"] else None

    def rewrite(self, inputs):
        [fact] = inputs["facts"]
        return SimpleNamespace(question=f"{fact.lower()}?") if fact != "U." else None

    def requests(self, task):
        return [str(inputs) for name, _, inputs in self.asked if name == task]


def sample(*answers, name="q0"):
    return {"id": name, "question": f"What is {name}?", "answers": list(answers)}


def scored(*values):
    return [[{"reward": value} for value in values]]


def test_the_fact_score_is_the_share_of_supported_facts():
    rows, counts = facttune.fact_scores(StubTeacher(), [sample("A. B. C. D.", "B.", "X.")], {"q0": "B. C."})
    assert [row["reward"] for row in rows[0]] == [0.5, 1.0, 0.0]
    assert rows[0][0] == {
        "answer": "A. B. C. D.",
        "facts": ["A.", "B.", "C.", "D."],
        "verdicts": ["contradicted", "supported", "supported", "not in reference"],
        "reward": 0.5,
    }
    assert counts == {
        "answers": 3,
        "without facts": 0,
        "facts": 6,
        "supported": 3,
        "contradicted": 1,
        "not in reference": 2,
        "not verified": 0,
    }


def test_answers_without_facts_or_verdicts_have_no_reward_and_are_counted():
    rows, counts = facttune.fact_scores(StubTeacher(), [sample("", "B. #", "U.", "B.")], {"q0": "B."})
    assert [row["reward"] for row in rows[0]] == [None, None, None, 1.0]
    assert (counts["without facts"], counts["not verified"], counts["supported"]) == (2, 1, 1)


def test_each_id_is_checked_against_its_own_reference():
    rows, _ = facttune.fact_scores(StubTeacher(), [sample("B."), sample("B.", name="q1")], {"q0": "B.", "q1": "C."})
    assert [row["reward"] for its in rows for row in its] == [1.0, 0.0]


def test_the_same_request_is_not_sent_twice():
    teacher = StubTeacher()
    rows, counts = facttune.fact_scores(teacher, [sample("B. C.", "B. C.", "B.C.", "C.")], {"q0": "B."})
    assert [row["reward"] for row in rows[0]] == [0.5, 0.5, 0.5, 0.0]
    assert counts["facts"] == 7
    for task, count in (("extract", 3), ("verify", 2)):
        requests = teacher.requests(task)
        assert len(requests) == len(set(requests)) == count
    names = [(task, name) for task, name, _ in teacher.asked]
    assert len(set(names)) == len(names)


def generate_of(said):
    """A model that answers the n-th repetition of a question with the n-th text said to it."""

    def generate(model, tokenizer, questions, decoding, max_new_tokens, batch_size, seed):
        assert decoding == "nucleus"
        left = {question: iter(texts) for question, texts in said.items()}
        return [{"answer": next(left[question])} for question in questions]

    return generate


def test_confidence_is_the_mean_share_of_the_modal_answer(monkeypatch):
    said = {"b.?": ["Red.", "red", " RED !", "blue"], "c.?": ["one", "two", "three", ""]}
    monkeypatch.setattr(facttune, "generate", generate_of(said))
    teacher = StubTeacher()
    rows, counts = facttune.confidences(teacher, None, None, [sample("B. C.", "C. B.", "C.", "U. B.", "")], times=4)
    assert [row["reward"] for row in rows[0]] == [0.5, 0.5, 0.25, 0.75, None]
    assert rows[0][3]["confidences"] == [None, 0.75]
    assert counts == {
        "answers": 5,
        "without facts": 1,
        "facts": 7,
        "facts without a question": 1,
        "distinct questions": 2,
        "sampled answers": 8,
    }
    assert len(teacher.requests("rewrite")) == len(set(teacher.requests("rewrite"))) == 3


def test_equal_facts_in_another_order_are_an_exact_tie(monkeypatch):
    said = {
        f"{letter}.?": ["x"] * k + [str(n) for n in range(10 - k)] for letter, k in zip("abc", (1, 2, 7), strict=True)
    }
    monkeypatch.setattr(facttune, "generate", generate_of(said))
    given = [sample("A. B. C.", "C. B. A.", "B. C. A.")]
    rows, _ = facttune.confidences(StubTeacher(), None, None, given, times=10)
    assert len({row["reward"] for row in rows[0]}) == 1
    assert facttune.pairs(given, rows, 9)[1]["ties"] == 3


def test_nothing_is_generated_where_there_is_no_question():
    rows, counts = facttune.confidences(StubTeacher(), None, None, [sample("U.", "")])
    assert [row["reward"] for row in rows[0]] == [None, None] and counts["sampled answers"] == 0


@pytest.mark.parametrize(
    ("answers", "count"),
    [
        (["Tar.", "tar", " TAR! "], 3),
        (["a b", "a  b", "ab"], 2),
        (["", "", "x"], 1),
        (["Tar. It is old.", "Tar."], 2),
        (["Dr. Ash.", "Dr. Elm."], 1),
        (["", " .", "?"], 0),
        ([], 0),
    ],
)
def test_the_modal_answer_is_counted_without_case_spacing_and_punctuation(answers, count):
    assert facttune.modal_count(answers) == count


def test_all_strict_pairs_of_a_question_and_no_other():
    given = [sample("A", "B", "C", "D")]
    made, counts = facttune.pairs(given, scored(0.5, 1.0, 0.5, None), limit=9)
    assert sorted((pair["chosen"], pair["rejected"], *pair["rewards"]) for pair in made) == [
        ("B", "A", 1.0, 0.5),
        ("B", "C", 1.0, 0.5),
    ]
    assert counts == {"candidates": 6, "without a reward": 3, "ties": 1, "strict": 2, "pairs": 2}
    assert {pair["aspect"] for pair in made} == {"factuality reward"}


def test_the_same_text_twice_makes_no_pair():
    assert facttune.pairs([sample("A", "A", "")], scored(0.1, 0.9, 0.5), 9)[1]["candidates"] == 0


def test_thinning_is_even_over_questions_and_seeded():
    given = [sample("A", "B", "C", "D", name=f"q{n}") for n in range(10)]
    rewards = scored(0.1, 0.2, 0.3, 0.4) * 10
    one, again, other = (facttune.pairs(given, rewards, 25, seed)[0] for seed in (1, 1, 2))
    assert one == again != other
    assert {sum(pair["id"] == row["id"] for pair in one) for row in given} == {2, 3}
    assert facttune.pairs(given, rewards, 1000)[1]["pairs"] == 60


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -3}])
def test_a_limit_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="limit is"):
        facttune.pairs([], [], **wrong)


def test_agreement_needs_two_answers():
    with pytest.raises(ValueError, match="times is 1"):
        facttune.confidences(StubTeacher(), None, None, [], times=1)


def test_over_the_wire_the_oracle_rewards_what_is_true(tmp_path):
    world = World.load("medical")
    name = world.entities[0]
    wrong = next(value for value in world.relation["sign"].values if value != world.facts[name]["sign"])
    true, false = world.sentence(name, "cause"), world.sentence(name, "sign", wrong)
    given = [{"id": "q", "question": world.question(name), "answers": [true, f"{true} {false}", false, "No idea."]}]
    with (
        serving(model=Oracle(world).answer) as server,
        Teacher("stub", tmp_path, base_url=server.base_url, api_key="k") as teacher,
    ):
        rows, counts = facttune.fact_scores(teacher, given, {"q": true})
        before = len(server.requests)
        assert facttune.fact_scores(teacher, given, {"q": true})[0] == rows
        assert len(server.requests) == before, "what is on record was asked again"
    assert [row["reward"] for row in rows[0]] == [1.0, 0.5, 0.0, None]
    assert (counts["without facts"], counts["contradicted"]) == (1, 2)

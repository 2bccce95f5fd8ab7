"""Selection, deletion, shuffling, and the stages against a teacher whose replies are known."""

import math
import random
from types import SimpleNamespace

import pytest

from knowtuning.knowledge.difficulty import perplexity, select_difficult
from knowtuning.knowledge.disturb import delete_facts, disturb, shuffle_facts, word_answers
from knowtuning.knowledge.extract import extract_facts
from knowtuning.knowledge.rewrite import rewrite

FACTS = [f"Fact {letter}." for letter in "ABCDE"]


class StubTeacher:
    """Serves tasks from functions; a function that returns None puts the row into quarantine."""

    def __init__(self, **functions):
        self.functions = functions
        self.asked = []

    def map(self, task, rows, progress=None):
        self.asked += [(task.name, name, inputs) for name, inputs in rows]
        return [self.functions[task.name](inputs) for _, inputs in rows]


def rows_of(*perplexities, name="a"):
    return [{"id": name, "index": i, "perplexity": p} for i, p in enumerate(perplexities)]


def difficult(rows):
    return [row["index"] for row in rows if row["difficult"]]


def test_perplexity_of_a_coin_is_two():
    assert perplexity(3 * math.log(2), 3) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("alpha", "n", "chosen"), [(0.5, 4, 2), (0.5, 5, 3), (0.5, 1, 1), (0.1, 30, 3), (0.0, 4, 0), (1, 3, 3)]
)
def test_the_share_is_rounded_up(alpha, n, chosen):
    assert len(difficult(select_difficult(rows_of(*range(1, n + 1)), alpha))) == chosen


def test_hardest_easiest_and_ties():
    rows = rows_of(2.0, 9.0, 2.0, 5.0)
    assert difficult(select_difficult(rows)) == [1, 3]
    assert difficult(select_difficult(rows, select="easiest")) == [0, 2]


def test_scope_dataset_ranks_over_all_answers():
    rows = rows_of(1.0, 2.0) + rows_of(8.0, 9.0, name="b")
    by_answer = [(row["id"], row["index"]) for row in select_difficult(rows) if row["difficult"]]
    by_dataset = [(row["id"], row["index"]) for row in select_difficult(rows, scope="dataset") if row["difficult"]]
    assert by_answer == [("a", 1), ("b", 1)]
    assert by_dataset == [("b", 0), ("b", 1)]


def test_random_selection_is_seeded_by_answer_and_not_by_neighbours():
    alone = select_difficult(rows_of(*range(6)), select="random", seed=3)
    beside = select_difficult(rows_of(*range(6), name="z") + rows_of(*range(6)), select="random", seed=3)
    assert difficult(alone) == difficult([row for row in beside if row["id"] == "a"])
    others = {tuple(difficult(select_difficult(rows_of(*range(6)), select="random", seed=s))) for s in range(20)}
    assert len(others) > 1


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"alpha": -0.1}, {"scope": "page"}, {"select": "best"}])
def test_wrong_knobs_are_refused(wrong):
    with pytest.raises(ValueError):
        select_difficult(rows_of(1.0), **wrong)


@pytest.mark.parametrize(("beta", "kept"), [(0.5, 3), (0.2, 4), (0.01, 4), (1.0, 1)])
def test_deletion_leaves_out_at_least_one_and_keeps_at_least_one(beta, kept):
    left = delete_facts(FACTS, beta, random.Random(0))
    assert len(left) == kept
    assert left == [fact for fact in FACTS if fact in left]


def test_shuffling_changes_the_order_and_nothing_else():
    for seed in range(50):
        shuffled = shuffle_facts(FACTS, random.Random(seed))
        assert shuffled != FACTS and sorted(shuffled) == FACTS


def test_one_fact_can_be_neither_deleted_nor_shuffled():
    assert delete_facts(["Only."], 0.5, random.Random(0)) is None
    assert shuffle_facts(["Only."], random.Random(0)) is None
    assert shuffle_facts(["Same.", "Same."], random.Random(0)) is None


def qa(name, answer="x"):
    return {"id": name, "question": f"What is {name}?", "answer": answer, "source": "test"}


def test_extraction_counts_what_is_lost():
    teacher = StubTeacher(
        extract=lambda inputs: None if inputs["answer"] == "?" else SimpleNamespace(facts=["A.", "B."])
    )
    facts, counts = extract_facts(teacher, [qa("a"), qa("b", "?"), qa("c")])
    assert [row["id"] for row in facts] == ["a", "c"]
    assert counts == {"answers": 3, "facts": 4, "quarantined": 1}


def test_rewriting_asks_only_about_difficult_facts():
    teacher = StubTeacher(rewrite=lambda inputs: SimpleNamespace(question="Q?", answer=" ".join(inputs["facts"])))
    rewritten, counts = rewrite(teacher, [qa("a"), qa("b")], {"a": ["Hard."]})
    assert rewritten == [{"id": "a", "question": "Q?", "answer": "Hard.", "facts": ["Hard."]}]
    assert counts == {"answers": 2, "without a difficult fact": 1, "rewritten": 1, "quarantined": 0}


def paraphrase(inputs):
    return SimpleNamespace(answer="In other words: " + " ".join(inputs["facts"]))


def falsify(inputs):
    return SimpleNamespace(facts=[fact.replace("Fact", "Myth") for fact in inputs["facts"]])


def test_three_pairs_for_an_answer_and_one_for_a_single_fact():
    teacher = StubTeacher(revise=falsify, rephrase=paraphrase)
    pairs, left_out = disturb(teacher, [qa("a"), qa("b"), qa("c")], {"a": FACTS, "b": ["Only."]})
    assert [(pair["id"], pair["aspect"]) for pair in pairs] == [
        ("a", "completeness"),
        ("a", "factuality"),
        ("a", "logicality"),
        ("b", "factuality"),
    ]
    assert left_out["without a fact"] == 1 and left_out["one fact, nothing to delete or shuffle"] == 1
    worded, counts = word_answers(teacher, pairs, "concatenated")
    assert worded[0]["chosen"].startswith("In other words: Fact A.")
    assert worded[1]["rejected"] == "Myth A. Myth B. Myth C. Myth D. Myth E."
    assert counts["pairs: factuality"] == 2 and counts["pairs left out"] == 0


def test_both_sides_can_be_rephrased():
    teacher = StubTeacher(revise=falsify, rephrase=paraphrase)
    pairs, _ = disturb(teacher, [qa("a")], {"a": FACTS})
    worded, _ = word_answers(teacher, pairs, "rephrased")
    assert all(pair["rejected"].startswith("In other words: ") for pair in worded)


def test_a_pair_without_its_rephrasing_is_left_out_and_counted():
    teacher = StubTeacher(revise=falsify, rephrase=lambda inputs: None)
    pairs, _ = disturb(teacher, [qa("a")], {"a": FACTS})
    worded, counts = word_answers(teacher, pairs, "concatenated")
    assert worded == [] and counts["pairs left out"] == 3


def test_disturbing_one_row_does_not_depend_on_its_neighbours():
    teacher = StubTeacher(revise=falsify, rephrase=paraphrase)
    facts = {name: FACTS for name in "abc"}
    together, _ = disturb(teacher, [qa(name) for name in "abc"], facts, seed=5)
    alone, _ = disturb(teacher, [qa("b")], facts, seed=5)
    assert [pair for pair in together if pair["id"] == "b"] == alone

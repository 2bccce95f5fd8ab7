from __future__ import annotations

import datasets
import pytest

from knowtuning.data.splits import holdout, split


def rows(questions):
    return [{"id": str(i), "question": q, "answer": f"answer {i}", "source": "toy"} for i, q in enumerate(questions)]


def test_split_is_exact_disjoint_complete_and_seeded():
    toy = rows(f"Question {i}?" for i in range(50))
    first, again, other = split(toy, 7, 11, seed=0), split(toy, 7, 11, seed=0), split(toy, 7, 11, seed=1)
    assert [len(part) for part in first] == [32, 7, 11]
    ids = [row["id"] for part in first for row in part]
    assert sorted(ids, key=int) == [str(i) for i in range(50)]
    assert first == again
    assert first.test != other.test


def test_rows_with_the_same_question_stay_on_one_side():
    toy = rows([f"Question {i // 3}?" if i % 2 else f"question  {i // 3}?" for i in range(60)])
    for seed in range(20):
        sides = [{row["question"].casefold().replace("  ", " ") for row in part} for part in split(toy, 6, 9, seed)]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]


def test_sizes_that_cannot_be_had_are_refused():
    with pytest.raises(ValueError, match="leave no training row of 5"):
        split(rows("abcde"), 2, 3, seed=0)
    with pytest.raises(ValueError, match="cannot be drawn from 6 rows with 2 different questions"):
        split(rows("aaabbb"), 1, 2, seed=0)


def test_training_rows_can_be_drawn_too_without_moving_what_is_held_out():
    toy = rows(f"Question {i // 2}?" if i < 20 else f"Question {i}?" for i in range(60))
    whole, drawn = split(toy, 7, 11, seed=0), split(toy, 7, 11, seed=0, train=30)
    assert [len(part) for part in drawn] == [30, 7, 11]
    assert (drawn.valid, drawn.test) == (whole.valid, whole.test)
    assert [row for row in whole.train if row in drawn.train] == drawn.train, "the order of the file is lost"
    assert drawn.train != whole.train[:30], "the first rows are no draw"
    questions = [{row["question"] for row in part} for part in drawn]
    assert not questions[0] & (questions[1] | questions[2])
    assert split(toy, 7, 11, seed=0, train=4000) == whole, "more than there are is all"


@pytest.mark.parametrize(("n", "size"), [(5, 2), (1000, 100), (37, 36)])
def test_holdout_takes_the_rows_that_llama_factory_takes(n, size):
    """LLaMA-Factory hands `val_size` and the seed to `train_test_split` of datasets."""
    parts = datasets.Dataset.from_dict({"index": list(range(n))}).train_test_split(test_size=size, seed=42)
    assert holdout(n, size) == parts["test"]["index"]


def test_holdout_leaves_something_to_train_on():
    assert holdout(3, 0) == []
    with pytest.raises(ValueError, match="val_size=3 leaves no training row of 3"):
        holdout(3, 3)

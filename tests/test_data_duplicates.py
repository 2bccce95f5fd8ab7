from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from itertools import combinations

import pytest

from knowtuning.data.duplicates import duplicate_pairs, leaks, near_duplicates


def qa(id, question, answer="That."):
    return {"id": id, "question": question, "answer": answer, "source": "toy"}


def test_duplicates_repeat_question_and_answer():
    rows = [qa("1", "A?", "B."), qa("2", "A?", "C."), qa("3", "A?", "B."), qa("4", "A?", "B.")]
    assert duplicate_pairs(rows) == [("3", "1"), ("4", "1")]
    assert duplicate_pairs(rows[:2]) == []


def test_leaks_are_test_questions_that_train_also_asks():
    train, test = [qa("t1", "What is  Rust?"), qa("t2", "Why?")], [qa("x1", "what is rust?"), qa("x2", "Who?")]
    assert leaks(train, test) == [("x1", "t1")]
    assert leaks(train, test[1:]) == []


def texts(seed, n=120):
    """Rows of which about a third are an earlier one with some words changed, some only slightly, and one-word rows."""
    draw = random.Random(seed)
    words = [f"w{i}" for i in range(60)]
    rows = [qa("0", "Why?", "So.")]
    for i in range(1, n):
        if draw.random() < 0.35 and len(rows) > 2:
            text = draw.choice(rows)["answer"].split()
            for _ in range(draw.randrange(4)):
                text[draw.randrange(len(text))] = draw.choice(words)
        else:
            text = draw.choices(words, k=draw.choice([1, 3, 8, 40, 80]))
        rows.append(qa(str(i), "Why?", " ".join(text)))
    return rows


def jaccard_of_all_pairs(rows):
    sets = []
    for row in rows:
        words = re.findall(r"\w+", f"{row['question']} {row['answer']}".lower())
        sets.append({tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))})
    return {(i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i, j in combinations(range(len(rows)), 2)}


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_are_those_that_comparing_all_pairs_finds(seed):
    rows = texts(seed)
    near = {pair: value for pair, value in jaccard_of_all_pairs(rows).items() if value >= 0.7}
    assert any(value < 0.8 for value in near.values()), "no pair near the threshold: the test would prove little"
    expected = {later: min(i for i, j in near if j == later) for _, later in near}
    found = near_duplicates(rows)
    assert {int(row): int(first) for row, first, _ in found} == expected
    assert all(near[int(first), int(row)] == pytest.approx(value) for row, first, value in found)
    between = near_duplicates(rows[:80], rows[80:])
    first = {j: min(i for i, k in near if k == j and i < 80) for i, j in near if i < 80 <= j}
    assert [(int(row), int(like)) for row, like, _ in between] == sorted(first.items())


def test_near_duplicates_do_not_depend_on_the_hash_seed():
    script = "from test_data_duplicates import *; print(near_duplicates(texts(0)))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.path.dirname(__file__)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1


def test_letter_case_and_punctuation_do_not_tell_rows_apart():
    a, b = qa("a", "What is rust?", "Iron oxide, of course."), qa("b", "what is RUST", "iron oxide of course")
    assert near_duplicates([a, b]) == [("b", "a", 1.0)]
    assert near_duplicates([a], [qa("c", "What is mould?", "A fungus, of course.")]) == []
    assert near_duplicates([], [a]) == near_duplicates([a], []) == near_duplicates([]) == []

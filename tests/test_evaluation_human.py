"""Choices made on a blind sheet, opened with its key: verdicts, annotators, and what they are compared with."""

from __future__ import annotations

import pytest

from knowtuning.evaluation.human.agreement import krippendorff_alpha
from knowtuning.evaluation.human.sheet import make_sheet
from knowtuning.evaluation.human.verdicts import (
    annotator_rows,
    first_items,
    judge_column,
    majority,
    ratings,
    true_column,
    unblind,
    verdict_rows,
)
from knowtuning.files import DataError

PAIR = [("knowtuning", "sft")]


def answers_of(*arms, count=60):
    return {
        arm: [{"id": f"q{n}", "question": f"Question {n}?", "answer": f"{arm} {n}", "correct": n % (place + 2)}
              for n in range(count)]
        for place, arm in enumerate(arms)
    }  # fmt: skip


def choices_for(key, annotator, pick):
    """Choices on all aspects by `pick(entry, aspect)`, an arm or "tie"."""
    rows = []
    for item, entry in key["items"].items():
        for aspect in ("completeness", "factuality", "logicality"):
            arm = pick(entry, aspect)
            choice = "tie" if arm == "tie" else "left" if arm == entry["left"] else "right"
            rows.append({"annotator": annotator, "item": item, "aspect": aspect, "choice": choice})
    return rows


PICKS = {
    "completeness": "knowtuning",
    "factuality": "sft",
    "logicality": "tie",
}


def test_choices_become_verdicts_of_the_first_arm_wherever_it_stood():
    _, key = make_sheet(answers_of("knowtuning", "sft"), PAIR, 20, seed=0)
    verdicts = unblind(choices_for(key, "ann", lambda entry, aspect: PICKS[aspect]), key)
    found = {(row["aspect"], row["verdict"]) for row in verdicts}
    assert found == {("completeness", "win"), ("factuality", "lose"), ("logicality", "tie")}
    shares = {row["aspect"]: (row["items"], row["win (%)"], row["tie (%)"], row["lose (%)"])
              for row in verdict_rows(verdicts, key)}  # fmt: skip
    assert shares == {"completeness": (20, 100, 0, 0), "factuality": (20, 0, 0, 100), "logicality": (20, 0, 100, 0)}
    with pytest.raises(DataError, match="'elsewhere', chosen on by ann"):
        unblind([{"annotator": "ann", "item": "elsewhere", "aspect": "factuality", "choice": "left"}], key)


def test_ratings_line_up_over_annotators_without_repeats():
    _, key = make_sheet(answers_of("knowtuning", "sft"), PAIR, 20, seed=0)
    choices = choices_for(key, "ben", lambda entry, aspect: "tie") + choices_for(
        key, "ann", lambda entry, aspect: PICKS[aspect]
    )
    items = first_items(key)
    dropped = [row for row in choices if not (row["annotator"] == "ann" and row["item"] == items[3])]
    columns = ratings(unblind(dropped, key), "completeness", items)
    assert list(columns) == ["ann", "ben"]
    assert columns["ann"] == ["win"] * 3 + [None] + ["win"] * 16
    assert columns["ben"] == ["tie"] * 20
    assert krippendorff_alpha(columns)["missing"] == 1


def test_the_majority_and_its_absence():
    columns = {"a": ["win", "win", "win", None], "b": ["win", "lose", "tie", None], "c": ["tie", None, "lose", None]}
    assert majority(columns) == ["win", "tie", "tie", None]


def test_one_who_always_goes_left_is_found_out_and_one_who_knows_is_not():
    _, key = make_sheet(answers_of("knowtuning", "sft"), PAIR, 40, seed=0, repeated=0.25)
    lefty = choices_for(key, "lefty", lambda entry, aspect: entry["left"])
    steady = choices_for(key, "steady", lambda entry, aspect: PICKS[aspect])
    rows = {row["annotator"]: row for row in annotator_rows(lefty + steady, key)}
    assert (rows["lefty"]["same (%)"], rows["lefty"]["left of left or right (%)"]) == (0, 100)
    assert (rows["steady"]["same (%)"], rows["steady"]["repeated"]) == (100, 30)
    assert 40 < rows["steady"]["left of left or right (%)"] < 60
    assert rows["steady"]["ties (%)"] == pytest.approx(100 / 3)


def test_truth_and_judge_line_up_with_the_items():
    answers = answers_of("knowtuning", "sft")  # 0 or 1 true facts against 0, 1 or 2
    _, key = make_sheet(answers, PAIR, 30, seed=0)
    items = first_items(key)
    truth = true_column(answers, "completeness", key, items)
    numbers = [int(key["items"][item]["id"][1:]) for item in items]
    assert truth == ["win" if n % 2 > n % 3 else "tie" if n % 2 == n % 3 else "lose" for n in numbers]
    judged = [{"id": f"q{n}", "aspect": "completeness", "verdict": "win" if n % 2 else None} for n in range(60)]
    column = judge_column({PAIR[0]: judged}, "completeness", key, items)
    assert column == ["win" if n % 2 else None for n in numbers]
    assert judge_column({PAIR[0]: judged}, "factuality", key, items) == [None] * 30

"""The blind sheet: what it holds, what it may not tell, and how it and the choices made on it are read."""

from __future__ import annotations

import json
import random
import statistics

import pytest

from knowtuning.evaluation.human.sheet import make_sheet, read_choices, read_sheet, sheet_of_run
from knowtuning.evaluation.human.verdicts import first_items
from knowtuning.files import DataError, write_jsonl
from knowtuning.run import Run

PAIR = [("knowtuning", "sft")]


def answers_of(*arms, count=60, seed=0):
    """Answers that no reader could tell apart: the same random words for every arm."""
    chance = random.Random(seed)
    return {
        arm: [
            {"id": f"q{n}", "question": f"Question {n}?", "answer": " ".join(chance.choices("abcdefgh", k=9))}
            for n in range(count)
        ]
        for arm in arms
    }


def texts(answers):
    return {(arm, row["id"]): row["answer"] for arm, rows in answers.items() for row in rows}


def test_items_hold_the_answers_that_the_key_says():
    answers = answers_of("knowtuning", "sft")
    sheet, key = make_sheet(answers, PAIR, 40, seed=0)
    of = texts(answers)
    assert len(sheet) == 44 and list(key["items"]) == [item["item"] for item in sheet]
    for item in sheet:
        entry = key["items"][item["item"]]
        left, right = entry["left"], ({"knowtuning", "sft"} - {entry["left"]}).pop()
        assert (item["left"], item["right"]) == (of[left, entry["id"]], of[right, entry["id"]])
        assert item["question"] == f"Question {entry['id'][1:]}?"


def test_sides_are_balanced_and_repeats_swap_them_in_the_second_half():
    sheet, key = make_sheet(answers_of("knowtuning", "sft"), PAIR, 40, seed=3, repeated=0.25)
    first = [entry for entry in key["items"].values() if entry["repeats"] is None]
    assert sum(entry["left"] == "sft" for entry in first) == 20
    places = {item["item"]: place for place, item in enumerate(sheet)}
    repeats = {name: entry["repeats"] for name, entry in key["items"].items() if entry["repeats"]}
    assert len(repeats) == 10 and len(set(repeats.values())) == 10
    for name, original in repeats.items():
        again, before = sheet[places[name]], sheet[places[original]]
        assert (again["left"], again["right"]) == (before["right"], before["left"])
        assert key["items"][name]["left"] != key["items"][original]["left"]
        assert places[original] < 20 <= places[name]


def test_of_an_odd_number_either_arm_may_have_the_larger_half():
    larger = set()
    for seed in range(20):
        _, key = make_sheet(answers_of("knowtuning", "sft"), PAIR, 5, seed, repeated=0)
        larger.add(sum(entry["left"] == "sft" for entry in key["items"].values()))
    assert larger == {2, 3}


def test_the_sheet_is_the_same_whatever_the_arms_are_called():
    answers = answers_of("knowtuning", "sft")
    named, _ = make_sheet(answers, PAIR, 40, seed=1)
    other, _ = make_sheet({"zebra": answers["knowtuning"], "ant": answers["sft"]}, [("zebra", "ant")], 40, seed=1)
    assert named == other
    assert "knowtuning" not in json.dumps(named) and "sft" not in json.dumps(named)


def test_a_reader_of_the_sheet_cannot_tell_who_wrote_what_better_than_by_chance():
    guesses = {
        "place is even": lambda place, item: place % 2 == 0,
        "first half": lambda place, item: place < 20,
        "id is even": lambda place, item: int(item["item"], 16) % 2 == 0,
        "id is low": lambda place, item: item["item"] < "8",
        "question is odd": lambda place, item: int(item["question"][9:-1]) % 2 == 1,
        "left sorts first": lambda place, item: item["left"] < item["right"],
    }
    right = {name: [] for name in guesses}
    alternation = []
    for seed in range(150):
        sheet, key = make_sheet(answers_of("knowtuning", "sft", seed=seed), PAIR, 41, seed)
        truth = [key["items"][item["item"]]["left"] == "sft" for item in sheet]
        alternation += [one != other for one, other in zip(truth, truth[1:], strict=False)]
        for name, guess in guesses.items():
            right[name] += [guess(place, item) == true for place, (item, true) in enumerate(zip(sheet, truth))]  # noqa: B905
    for name, hits in (*right.items(), ("other side than before", alternation)):
        assert abs(statistics.mean(hits) - 0.5) < 4 * 0.5 / len(hits) ** 0.5, name


def test_another_seed_gives_other_questions_order_and_sides():
    answers = answers_of("knowtuning", "sft")
    one, other = (make_sheet(answers, PAIR, 40, seed)[1] for seed in (0, 1))
    assert [e["id"] for e in one["items"].values()] != [e["id"] for e in other["items"].values()]
    assert [e["left"] for e in one["items"].values()] != [e["left"] for e in other["items"].values()]


def test_identical_answers_are_left_out_and_counted():
    answers = answers_of("knowtuning", "sft", count=10)
    for row, other in list(zip(answers["knowtuning"], answers["sft"], strict=True))[:4]:
        row["answer"] = other["answer"] + " \n"
    sheet, key = make_sheet(answers, PAIR, 40, seed=0, repeated=0)
    assert key["pairs"] == [{"arm": "knowtuning", "against": "sft", "questions": 10, "identical": 4, "drawn": 6}]
    assert {entry["id"] for entry in key["items"].values()} == {f"q{n}" for n in range(4, 10)}
    with pytest.raises(DataError, match="answer all 10 questions alike"):
        make_sheet({"a": answers["sft"], "b": answers["sft"]}, [("a", "b")], 5, seed=0)


def test_several_pairs_share_one_sheet():
    answers = answers_of("knowtuning", "sft", "rlaif")
    sheet, key = make_sheet(answers, [("knowtuning", "sft"), ("knowtuning", "rlaif")], 20, seed=0)
    assert len(sheet) == 44
    assert len(first_items(key, ("knowtuning", "rlaif"))) == len(first_items(key, ("knowtuning", "sft"))) == 20
    against = [entry["against"] for entry in key["items"].values()]
    assert len(set(against[:10])) == 2, "the pairs are mixed"


@pytest.mark.parametrize(("change", "said"), [({"repeated": 0.6}, "at most half"), ({"count": 0}, "one question")])
def test_a_sheet_that_cannot_be_made_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        make_sheet(answers_of("knowtuning", "sft"), PAIR, **({"count": 9, "seed": 0} | change))


def test_arms_with_other_questions_are_refused():
    answers = answers_of("knowtuning", "sft")
    answers["sft"].reverse()
    with pytest.raises(DataError, match="answer other questions"):
        make_sheet(answers, PAIR, 5, seed=0)


@pytest.fixture
def run():
    run = Run("12_human_evaluation", "smoke", 0)
    answers = answers_of("knowtuning", "sft", count=12)
    for arm, rows in answers.items():
        write_jsonl(run.path(f"answers/{arm}.greedy.jsonl"), rows)
    rows = [{"id": row["id"], "question": row["question"], "answer": f"Truth {n}."} for n, row in enumerate(rows)]
    write_jsonl(run.path("data/test.jsonl"), rows)
    return run


def test_the_sheet_of_a_run_shows_no_arm_in_any_file_that_an_annotator_gets(run):
    path = sheet_of_run(run, ["knowtuning", "sft"], 8)
    assert "knowtuning" not in path.read_text() and "sft" not in path.read_text()
    assert "knowtuning" not in str(path.relative_to(run.root))
    assert [file.name for file in path.parent.iterdir()] == ["sheet.jsonl"]
    assert "knowtuning" in (run.root / "human" / "keys" / f"{path.parent.name}.json").read_text()
    assert all(item["reference"].startswith("Truth") for item in read_sheet(path))
    assert sheet_of_run(run, ["knowtuning", "sft"], 8) == path
    assert sheet_of_run(run, ["knowtuning", "sft"], 9) != path


@pytest.mark.parametrize("arms", [["sft"], ["sft", "sft"], ["knowtuning", "sft", "sft"]])
def test_a_comparison_needs_different_arms(run, arms):
    with pytest.raises(DataError, match="each once"):
        sheet_of_run(run, arms, 5)


def test_a_missing_arm_names_the_notebook_to_run(run):
    with pytest.raises(DataError, match="run notebook 09_evaluation first"):
        sheet_of_run(run, ["knowtuning", "rlaif"], 5)


ITEM = {"item": "a", "question": "Why?", "left": "x", "right": "y"}


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([ITEM | {"arm": "sft"}], "no others"),
        ([{"item": "a", "question": "Why?", "left": "x"}], "no others"),
        ([ITEM | {"left": None}], "left is not a text"),
        ([ITEM, ITEM], "two items are called 'a'"),
        ([], "holds no items"),
    ],
)
def test_what_is_no_sheet_is_refused(tmp_path, items, said):
    with pytest.raises(DataError, match=said):
        read_sheet(write_jsonl(tmp_path / "sheet.jsonl", items))


def test_choices_of_a_folder_and_the_last_one_counts(tmp_path):
    row = {"annotator": "ann", "item": "a", "aspect": "factuality", "choice": "left"}
    write_jsonl(tmp_path / "ann.jsonl", [row, row | {"choice": "tie"}])
    write_jsonl(tmp_path / "ben.jsonl", [row | {"annotator": "ben"}])
    assert [(r["annotator"], r["choice"]) for r in read_choices(tmp_path)] == [("ann", "tie"), ("ben", "left")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"choice": "both"}, "choice 'both' is not in"),
        ({"aspect": "style"}, "aspect 'style' is not in"),
        ({"item": 3}, "'item' is missing or not a text"),
    ],
)
def test_choices_that_cannot_be_read_are_named(tmp_path, change, said):
    row = {"annotator": "ann", "item": "a", "aspect": "factuality", "choice": "left"}
    with pytest.raises(DataError, match=f"ann.jsonl, choice 2: {said}"):
        read_choices(write_jsonl(tmp_path / "ann.jsonl", [row, row | change]))


def test_a_folder_without_choices_says_how_to_collect_some(tmp_path):
    with pytest.raises(DataError, match="knowtuning annotate"):
        read_choices(tmp_path)

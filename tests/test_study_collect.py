import json

import numpy as np
import pytest
from tiny_study import QUESTIONS, write_study

from knowtuning.files import DataError, read_json, read_jsonl, write_jsonl
from study import claims, compare
from study.answers import find_cells, load_domains
from study.collect import collect
from study.rows import read_rows, write_rows


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def output(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    collect(study, folder)
    return folder


def one(rows, **wanted):
    [row] = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return row


def test_rows_come_back_with_small_numbers_unhurt(tmp_path):
    rows = [{"a": 1.23456, "p": 1.23456e-9, "by": {"0": 2.00001}}, {"a": None, "b": "x"}]
    path = write_rows(tmp_path / "rows.json", rows, family="all")
    assert read_rows(path) == [
        {"a": 1.235, "p": 1.235e-9, "by": {"0": 2.0}, "b": None},
        dict(a=None, p=None, by=None, b="x"),
    ]
    assert json.loads(path.read_text())["family"] == "all"
    path.write_text('{"columns": ["a"], "rows": [[1, 2]]}')
    with pytest.raises(DataError, match="rows.json has no columns and rows that fit"):
        read_rows(path)


def test_files_are_small_and_say_the_same_twice(study, output, tmp_path):
    again = collect(study, tmp_path)
    assert sorted(path.name for path in again) == sorted(path.name for path in output.iterdir())
    assert all(path.read_bytes() == (output / path.name).read_bytes() for path in again)


def test_means_of_a_cell_are_those_of_its_answers(study, output):
    rows = read_jsonl(study / "lab" / "seed-1" / "answers" / "knowtuning.greedy.jsonl")
    row = one(read_rows(output / "cells.json"), recipe="lab", seed=1, arm="knowtuning", decoding="greedy")
    correct, incorrect = sum(r["correct"] for r in rows), sum(r["incorrect"] for r in rows)
    assert row["correct facts"] == pytest.approx(correct / QUESTIONS, abs=1e-3)
    assert row["% correct"] == pytest.approx(100 * correct / (correct + incorrect), abs=1e-3)
    f1 = [2 * r["correct"] / (r["correct"] + r["incorrect"] + 8) for r in rows]
    assert row["F1"] == pytest.approx(100 * np.mean(f1), abs=1e-3)
    assert row["BERTScore"] == pytest.approx(80)
    sampled = one(read_rows(output / "cells.json"), recipe="lab", seed=1, arm="knowtuning", decoding="sampled")
    assert sampled["BERTScore"] is None


def test_a_difference_is_the_mean_over_cells_with_each_base_beside_it(output):
    cells = read_rows(output / "cells.json")
    row = one(
        read_rows(output / "differences.json"),
        domain="medical", decoding="greedy", tier="all", arm="knowtuning", against="sft", metric="correct facts",
    )  # fmt: skip
    assert row["cells"] == 3 and row["questions"] == QUESTIONS and row["low"] < row["difference"] < row["high"]
    at = {(r["recipe"], r["seed"], r["arm"]): r["correct facts"] for r in cells if r["decoding"] == "greedy"}
    gains = [at[p, s, "knowtuning"] - at[p, s, "sft"] for p, s in (("lab", 0), ("lab", 1), ("lab-base-1", 0))]
    assert row["difference"] == pytest.approx(np.mean(gains), abs=2e-3)
    assert row["by_base"] == {"0": pytest.approx(np.mean(gains[:2]), abs=2e-3), "1": pytest.approx(gains[2], abs=2e-3)}
    assert row["p"] <= row["p_holm"] <= 1


def test_one_cell_has_no_interval_for_other_trainings(output):
    row = one(
        read_rows(output / "differences.json"),
        domain="generic", decoding="greedy", tier="all", arm="knowtuning", against="sft", metric="% correct",
    )  # fmt: skip
    assert row["cells"] == 1 and row["low"] is row["p"] is row["p_holm"] is None
    assert row["questions_low"] < row["questions_high"]
    assert not [row for row in read_rows(output / "power.json") if row["domain"] == "generic"]
    generic = [
        row for row in read_rows(output / "claims.json") if row["domain"] == "generic" and row["family"] != "cost"
    ]
    assert {row["verdict"] for row in generic} == {"cannot be told"}


def test_wins_are_decided_by_the_truth_and_silence_ties():
    first = {"correct": np.array([[3.0, 2, 0]]), "precision": np.array([[0.5, 1, np.nan]]), "order": np.ones((1, 3))}
    second = {"correct": np.array([[2.0, 2, 1]]), "precision": np.array([[1, 1, 0.5]]), "order": np.zeros((1, 3))}
    assert compare.wins("completeness", first, second).tolist() == [[1, 0, -1]]
    assert compare.wins("factuality", first, second).tolist() == [[-1, 0, 0]]
    assert compare.wins("logicality", first, second).tolist() == [[1, 1, 1]]


def test_games_add_up_and_completeness_is_won(output):
    rows = read_rows(output / "pairwise.json")
    assert all(row["win"] + row["tie"] + row["lose"] == pytest.approx(100, abs=0.01) for row in rows)
    row = one(rows, domain="medical", decoding="greedy", against="sft", aspect="completeness")
    assert row["difference"] == pytest.approx(row["win"] - row["lose"], abs=0.01) and row["win"] > 75
    assert row["rate"] == pytest.approx(row["win"] + row["tie"] / 2, abs=0.01)


def test_costs_are_the_teachers_counts_at_the_tables_prices(output):
    row = one(read_rows(output / "cost.json"), domain="medical", set="KnowTuning", model="gpt-3.5-turbo")
    assert (row["calls"], row["prompt_tokens"], row["completion_tokens"]) == (1600, 160_000, 16_000)
    assert row["dollars"] == pytest.approx((160_000 * 0.5 + 16_000 * 1.5) / 1e6)
    assert row["dollars_per_1000"] == pytest.approx(2.5 * row["dollars"])
    row = one(
        read_rows(output / "cost_differences.json"),
        domain="medical", model="gpt-3.5-turbo", second="FactTune FS",
    )  # fmt: skip
    assert row["difference"] < 0 and row["high"] < 0 and row["cells"] == 3


def test_an_unknown_task_of_the_teacher_is_named(study, tmp_path):
    cells, _ = find_cells(study)
    cells[0].about["teacher"]["knowtuning"]["sing"] = {}
    from study.cost import cost_rows

    with pytest.raises(DataError, match="no set is made of the task 'sing'"):
        cost_rows(cells[:1])


def test_the_map_keeps_tiers_and_rewards_apart(output):
    rows = read_rows(output / "map.json")
    assert one(rows, axis="alpha", seed=0, metric="correct facts", tier="all")["knowtuning"] == 3.5
    assert one(rows, axis="alpha", seed=0, tier="rare")["sft"] is None
    assert one(rows, axis="alpha", seed=0, metric="chosen reward")["knowtuning"] == -0.5


def test_a_partial_study_is_collected_and_what_is_missing_is_named(tmp_path):
    folder = write_study(tmp_path / "study")
    (folder / "lab" / "seed-1" / "answers" / "rlaif.greedy.jsonl").unlink()
    (folder / "lab-base-1" / "seed-0" / "cell.json").unlink()
    for name in ("tuning.json", "judge.json"):
        (folder / name).unlink()
    collect(folder, tmp_path / "out")
    coverage = read_rows(tmp_path / "out" / "coverage.json")
    assert one(coverage, recipe="lab", seed=1)["missing"] == ["rlaif.greedy"]
    assert read_json(tmp_path / "out" / "coverage.json")["unfinished"] == ["lab-base-1/seed-0"]
    rows = [row for row in read_rows(tmp_path / "out" / "differences.json") if row["metric"] == "order"]
    about = {"domain": "medical", "decoding": "greedy", "tier": "all", "against": "sft"}
    assert one(rows, **about, arm="rlaif")["cells"] == 1 and one(rows, **about, arm="ka")["cells"] == 2
    assert not (tmp_path / "out" / "judge.json").exists()


def test_other_questions_are_refused(tmp_path):
    folder = write_study(tmp_path / "study")
    path = folder / "lab" / "seed-1" / "answers" / "ka.greedy.jsonl"
    rows = read_jsonl(path)
    write_jsonl(path, [{**rows[0], "question": "Another?"}, *rows[1:]])
    with pytest.raises(DataError, match="ka.greedy.jsonl answers other questions"):
        list(load_domains(find_cells(folder)[0]))
    write_jsonl(path, [{name: row[name] for name in row if name != "order"} for row in rows])
    with pytest.raises(DataError, match="ka.greedy.jsonl: an answer has no field 'order'"):
        list(load_domains(find_cells(folder)[0]))


def test_an_empty_folder_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="holds no finished cell"):
        collect(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    "gain, low, high, p, expected",
    [
        (2.0, 1.0, 3.0, 0.01, "holds"),
        (2.0, 1.0, 3.0, 0.20, "cannot be told"),  # not after Holm
        (-2.0, -3.0, -1.0, 0.01, "does not hold"),
        (0.1, -0.5, 0.8, 0.70, "does not hold"),  # no gain that matters
        (0.1, -0.5, 1.2, 0.70, "cannot be told"),
        (2.0, None, None, None, "cannot be told"),
    ],
)
def test_the_rule_of_the_verdicts(gain, low, high, p, expected):
    assert claims.verdict({"gain": gain, "low": low, "high": high, "p_holm": p, "band": 1.0}) == expected


def test_a_claim_of_less_is_turned_and_a_reversed_pair_too():
    row = {
        "domain": "d",
        "decoding": "greedy",
        "tier": "all",
        "difference": -0.4,
        "low": -0.5,
        "high": -0.3,
        "p": 0.001,
    }
    less = {**row, "arm": "knowtuning", "against": "sft", "metric": "incorrect facts", "cells": 3}
    ablated = {**row, "arm": "no_kcc", "against": "knowtuning", "metric": "completeness", "cells": 3}
    found = {row["claim"]: row for row in claims.judge("d", "greedy", [less, ablated], [], [])}
    fewer = found["more factual than SFT: fewer incorrect facts"]
    assert (fewer["gain"], fewer["low"], fewer["high"], fewer["verdict"]) == (0.4, 0.3, 0.5, "holds")
    assert found["-KCC lowers completeness"]["gain"] == 0.4
    assert found["more complete than SFT"]["verdict"] == "cannot be told"

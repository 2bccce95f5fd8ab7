"""Before a run pays: preview, estimate and doctor."""

from __future__ import annotations

import json
import os
import re
from datetime import date, timedelta

import numpy as np
import pytest
from endpoints.options import Options
from teacher_server import serving, stub
from test_teacher_client import teacher_at

from knowtuning.cli import main
from knowtuning.doctor import check_endpoint, check_machine, check_packages
from knowtuning.knowledge.estimate import Sample, estimate
from knowtuning.knowledge.pipeline import rehearse
from knowtuning.recipe import get_recipe
from knowtuning.teacher.budget import Price, load_end
from knowtuning.teacher.calls import totals

PRICE = Price(1.0, 4.0, batch=0.5)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("KNOWTUNING_RUNS", str(tmp_path / "runs"))


def rows(count: int) -> list[dict]:
    """Rows of very different length, as answers are."""
    chance = np.random.default_rng(1)
    sizes = np.minimum(1 + chance.lognormal(1.5, 1.0, count).astype(int), 60)
    facts = [[f"Fact {place} of row {number}." for place in range(size)] for number, size in enumerate(sizes)]
    return [{"id": f"r{n}", "question": f"What of {n}?", "answer": " ".join(told)} for n, told in enumerate(facts)]


# --- the estimate


def test_a_sample_as_large_as_the_whole_is_exact():
    drawn = Sample(np.array([3.0, 1.0, 2.0]), sample=3, seed=0)
    assert drawn.total(np.array([1.0, 2.0, 4.0])).low == drawn.total(np.array([1.0, 2.0, 4.0])).high == 7.0


def test_what_is_linear_in_the_length_is_found_exactly_from_a_sample():
    lengths = np.random.default_rng(0).lognormal(6, 1, 2000)
    drawn = Sample(lengths, sample=30, seed=0)
    found = drawn.total(5 + 2 * lengths[drawn.places])
    assert found.expected == pytest.approx((5 + 2 * lengths).sum(), rel=1e-6)
    assert found.high - found.low < 1e-3 * found.expected


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    chance = np.random.default_rng(0)
    lengths = chance.lognormal(6, 1, 3000)
    costs = 600 + 0.25 * lengths * chance.lognormal(0, 0.4, 3000)
    inside = 0
    for seed in range(300):
        drawn = Sample(lengths, sample=60, seed=seed)
        found = drawn.total(costs[drawn.places])
        inside += found.low <= costs.sum() <= found.high
    assert 0.88 < inside / 300 <= 0.99, inside / 300


def test_the_actual_cost_lies_inside_and_the_sample_is_not_paid_twice(tmp_path):
    data = rows(400)
    with serving() as server, teacher_at(server.base_url, tmp_path, concurrency=32) as teacher:
        guess = estimate(teacher, data, sample=50, price=PRICE)
        asked = len(server.requests)
        assert asked <= 4 * 50 and guess.rows == 400 and guess.sample == 50
        rehearse(teacher, data)
        assert len(server.requests) <= 4 * 400, "the sampled calls were on record"
        paid = totals(teacher.counts)
    actual = PRICE.dollars(paid["prompt_tokens"], paid["completion_tokens"])
    dollars = guess.stages["total"]["dollars"]
    assert dollars.low <= actual <= dollars.high and dollars.high < 1.2 * dollars.low
    assert guess.stages["total"]["calls"].expected == pytest.approx(1600, rel=0.01)
    parts = [guess.stages[name]["dollars"].expected for name in ("extract", "rewrite", "revise", "rephrase")]
    assert sum(parts) == pytest.approx(dollars.expected)


def test_stages_ask_nothing_more_about_a_row_that_failed_the_first(tmp_path):
    def no_facts(task, inputs):
        return {"facts": []} if task == "extract" else stub(task, inputs)

    with serving(model=no_facts) as server, teacher_at(server.base_url, tmp_path) as teacher:
        made = rehearse(teacher, rows(1))
        assert totals(teacher.counts)["asked"] == 1 and len(server.requests) == 3
    assert made[:4] == ([], [], [], [])


# --- the commands


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "mine.jsonl"
    texts = [
        {"question": f"Who is {n}?", "answer": f"{n} Smith was born in 18{n}. He wrote a book."} for n in range(50, 99)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in texts))
    return str(path)


def test_preview_shows_rows_and_what_became_of_them(data, capsys):
    assert main(["preview", "--recipe", "dolly-offline", "--data", data, "--count", "2"]) == 0
    shown = capsys.readouterr().out
    assert len(re.findall(r"^question ", shown, re.M)) == 2 and "\n0 requests failed" in shown
    for label in ("fact 1", "  false", "new question", "new answer", "rephrased"):
        assert label in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_estimate_prints_every_stage_and_says_when_no_price_is_known(data, capsys):
    command = ["estimate", "--recipe", "dolly-offline", "--data", data, "--sample", "8"]
    assert main([*command, "--price", "1,2"]) == 0
    priced = capsys.readouterr().out
    for stage in ("extract", "rewrite", "revise", "rephrase", "total"):
        assert re.search(rf"^\s*{stage} .*\d\.\d", priced, re.M)
    assert "dollars" in priced and "95 % interval" in priced
    assert max(map(len, priced.splitlines())) <= 80
    with serving() as server:
        os.environ["OPENAI_BASE_URL"] = server.base_url
        try:
            assert main([*command, "--teacher", "stub"]) == 0
        finally:
            del os.environ["OPENAI_BASE_URL"]
    assert "No price of stub is known" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["preview", "--count", "30"], ["estimate", "--sample", "40"]])
def test_a_cap_holds_before_the_run_too(data, monkeypatch, capsys, command):
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setattr("knowtuning.teacher.client.load_price", lambda model: Price(1.0, 1.0, 0.5))
        options = ["--recipe", "dolly-offline", "--data", data, "--teacher", "stub", "--max-cost", "0.02"]
        assert main([command[0], *options, *command[1:]]) == 1
    assert "The cap of $0.02 is reached" in capsys.readouterr().err
    assert 0 < len(server.requests) < 40


# --- the doctor


def findings(monkeypatch, teacher="stub", **options):
    with serving(options=Options(**options)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        return {found.subject: found for found in check_endpoint(get_recipe("dolly-offline"), teacher)}


def test_the_doctor_says_what_an_endpoint_can_do(monkeypatch):
    found = findings(monkeypatch)
    assert {found[name].state for name in ("model", "teacher", "replies")} == {"ok"}
    assert found["price"].state == "warn" and "none known of stub" in found["price"].what


def test_the_doctor_names_what_is_weaker(monkeypatch):
    found = findings(monkeypatch, dialect="old")
    assert found["replies"].state == "warn" and "json_object" in found["replies"].what
    assert "capped by max_tokens;" in found["replies"].what
    assert "refused" in findings(monkeypatch, dialect="reasoning")["replies"].what


@pytest.mark.parametrize(("days", "state"), [(-3, "fail"), (20, "warn"), (400, "ok")])
def test_the_doctor_knows_when_a_model_is_shut_down(monkeypatch, days, state):
    shutdown = (date.today() + timedelta(days=days)).isoformat()
    found = findings(monkeypatch, shutdown_date=shutdown)["model"]
    assert found.state == state and shutdown in found.what


def test_where_the_endpoint_does_not_say_it_the_price_table_does():
    assert load_end("gpt-4o-mini") == "2027-01-14" and load_end("gpt-4-turbo") == "2026-10-23"
    assert load_end("gpt-6-luna") is None


def test_the_doctor_fails_where_the_model_or_the_endpoint_is_not(monkeypatch):
    assert findings(monkeypatch, teacher="other")["model"].state == "fail"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    found = {each.subject: each for each in check_endpoint(get_recipe("dolly-offline"), "stub")}
    assert found["teacher"].state == "fail" and "No teacher can be reached" in found["teacher"].what


def test_the_doctor_measures_the_machine_and_the_packages():

    small, large = get_recipe("lab"), get_recipe("lab").replace(machine={"memory_gb": 1e6})
    assert {found.subject: found.state for found in check_machine(small)}["disk"] == "ok"
    assert {found.subject: found.state for found in check_machine(large)}["memory"] == "fail"
    assert [found.state for found in check_packages(small)] == ["ok"]


def test_the_doctors_exit_code_tells(monkeypatch, capsys):
    assert main(["doctor", "--recipe", "dolly-offline"]) == 0
    assert capsys.readouterr().out.endswith("Ready.\n")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert main(["doctor", "--recipe", "dolly-offline"]) == 1

"""What a server is told: by a dataclass, on the command line, and by a parent to its child."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import pytest
from endpoints.options import Options, add_arguments, from_arguments, to_arguments
from teacher_server import get, post, request_body

from knowtuning.files import ROOT, read_jsonl
from knowtuning.teacher.server import local_server

EVERYTHING = Options(
    delay=0.25,
    dialect="old",
    shutdown_date="2027-01-14",
    requests_per_minute=5,
    tokens_per_minute=6,
    burst=1.0,
    capacity=7,
    faults=0.5,
    fault_seed=8,
    fault_kinds=("storm", "html"),
    stall=9.0,
    log=Path("/tmp/log"),
    state=Path("/tmp/state"),
    batch_seconds=0.0,
    batch_expire=0.125,
    batch_invalid_first=True,
)


def parsed(words: list[str]) -> ServerOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_arguments(parser.parse_args(words))


def test_the_command_line_says_everything_that_the_dataclass_does():
    defaults = Options()
    assert all(getattr(EVERYTHING, field.name) != getattr(defaults, field.name) for field in fields(ServerOptions))
    assert parsed(to_arguments(EVERYTHING)) == EVERYTHING
    assert parsed([]) == defaults and to_arguments(defaults) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dialect": "klingon"}, "no dialect 'klingon': use openai, "),
        ({"fault_kinds": ("rain",)}, "no fault kind 'rain'"),
        ({"fault_kinds": ()}, "no fault kind"),
        ({"faults": 1.5}, "faults is 1.5"),
        ({"batch_expire": -0.1}, "batch_expire is -0.1"),
        ({"delay": -1.0}, "delay is -1.0"),
        ({"stall": float("nan")}, "stall is nan"),
        ({"capacity": 0}, "capacity is 0"),
        ({"burst": 0.0}, "burst is 0.0"),
        ({"shutdown_date": "soon"}, "shutdown_date is 'soon'"),
    ],
)
def test_a_value_that_means_nothing_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Options(**wrong)


def test_a_server_in_a_child_process_gets_its_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = Options(shutdown_date="2027-01-14", log=Path("served.jsonl"))
    with local_server("english-rules", delay=0.01, options=options) as base_url:
        assert get(f"{base_url}/models/english-rules")["shutdown_date"] == "2027-01-14"
        assert post(base_url, request_body(model="english-rules"))[0] == 200
    assert [line["outcome"] for line in read_jsonl(tmp_path / "served.jsonl")] == ["reply"]
    assert not (ROOT / "served.jsonl").exists()

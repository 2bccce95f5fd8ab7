"""The Batch API as a mode of the same client: half the price, nothing lost, nothing paid twice."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest
from endpoints.options import Options
from teacher_server import serving
from test_teacher_client import extract_rows, quarantine, teacher_at

from knowtuning.files import read_jsonl
from knowtuning.teacher.budget import Price, dollars_of
from knowtuning.teacher.endpoint import Features
from knowtuning.teacher.errors import CapReached, TeacherError
from knowtuning.teacher.prompts import EXTRACT
from knowtuning.teacher.record import Record, record_path

QUICK = {"batch": True, "poll": 0.02}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def known_form(folder, base_url):
    """As after an earlier run: how the endpoint is to be asked is known."""
    with Record(folder) as record:
        record.remember(base_url, "stub", Features(proven=True))


def dollars(folder, price) -> float:
    with Record(folder) as record:
        return dollars_of(record.spending(), price.get)


def read(folder, query) -> list:
    """Rows of a record that others may be writing."""
    if not record_path(folder).exists():
        return []
    with closing(sqlite3.connect(record_path(folder), timeout=60)) as database, suppress(sqlite3.OperationalError):
        return database.execute(query).fetchall()
    return []  # its tables are being made


def test_a_batch_serves_as_calls_do_at_half_the_price(tmp_path):
    rows = [*extract_rows(30), ("twin", extract_rows(1)[0][1])]
    with serving(options=Options(batch_seconds=0.1)) as server:
        with teacher_at(server.base_url, tmp_path / "calls") as teacher:
            by_call = teacher.map(EXTRACT, rows)
        known_form(tmp_path / "batch", server.base_url)
        asked = len(server.requests)
        with teacher_at(server.base_url, tmp_path / "batch", **QUICK) as teacher:
            seen = []
            by_batch = teacher.map(EXTRACT, rows, lambda *state: seen.append(state))
            counts = teacher.counts["extract"]
        assert len(server.requests) == asked, "no call went out beside the batch"
    assert by_batch == by_call
    assert (counts["asked"], counts["calls"], counts["from_cache"]) == (31, 30, 1)
    assert seen[-1][:3] == (31, 31, 0)
    price = {"stub": Price(1.0, 1.0, batch=0.5)}
    full, half = (dollars(tmp_path / name, price) for name in ("calls", "batch"))
    assert half == pytest.approx(full / 2) and full > 0
    assert read(tmp_path / "batch", "select * from batch") == read(tmp_path / "batch", "select * from request") == []


def test_a_second_run_sends_nothing(tmp_path):
    with serving(options=Options(batch_seconds=0.05)) as server:
        for _ in range(2):
            with teacher_at(server.base_url, tmp_path, **QUICK) as teacher:
                assert all(teacher.map(EXTRACT, extract_rows(5)))
    assert teacher.counts["extract"]["calls"] == 0


def test_where_the_form_is_not_known_a_single_call_finds_it(tmp_path):
    with serving(options=Options(batch_seconds=0.05, dialect="old")) as server:
        with teacher_at(server.base_url, tmp_path, **QUICK) as teacher:
            assert all(teacher.map(EXTRACT, extract_rows(9)))
            assert teacher.features.structured == "json_object"
    assert 1 < len(server.requests) <= 4


@pytest.mark.parametrize("options", [{"batch_expire": 0.4}, {"faults": 0.3, "fault_seed": 5}])
def test_what_expired_or_failed_is_sent_again_until_it_is_there(tmp_path, options):
    log = tmp_path / "log.jsonl"
    with serving(options=Options(batch_seconds=0.02, log=log, **options)) as server:
        known_form(tmp_path, server.base_url)
        with teacher_at(server.base_url, tmp_path, **QUICK | {"max_retries": 12}) as teacher:
            replies = teacher.map(EXTRACT, extract_rows(60))
            counts = teacher.counts["extract"]
    failed = [row["id"] for row in quarantine(tmp_path)]
    assert [reply is None for reply in replies].count(True) == len(failed)
    assert "batch_expire" not in options or len(failed) <= 1  # the share is rounded up: a lone row expires for ever
    assert counts["calls"] > 60 and counts["retries"] > 0
    paid = Counter(row["key"] for row in read_jsonl(log) if row["outcome"] in ("batch", "reply"))
    assert max(paid.values()) == 1, "a row that was served was sent again"


def test_a_row_that_no_batch_serves_is_given_up_with_its_reason_and_never_called_for(tmp_path):
    rows = [*extract_rows(3), ("bad", {"question": "Q?", "answer": "POISON."})]
    with serving(options=Options(batch_seconds=0.02, faults=0.0)) as server:
        known_form(tmp_path, server.base_url)
        with teacher_at(server.base_url, tmp_path, **QUICK) as teacher:
            replies = teacher.map(EXTRACT, rows)
    assert [reply is None for reply in replies] == [False, False, False, True]
    assert [(row["id"], row["attempts"]) for row in quarantine(tmp_path)] == [("bad", 3)]
    assert server.requests == []


def test_a_batch_that_is_not_accepted_stops_with_the_endpoints_reason(tmp_path):
    with serving(options=Options(batch_seconds=0.02, batch_invalid_first=True)) as server:
        known_form(tmp_path, server.base_url)
        with teacher_at(server.base_url, tmp_path, **QUICK) as teacher:
            with pytest.raises(TeacherError, match="was not accepted"):
                teacher.map(EXTRACT, extract_rows(3))
            assert all(teacher.map(EXTRACT, extract_rows(3))), "the next run starts a new one"


def test_the_cap_cuts_a_batch_down_and_stops_before_the_next(tmp_path):
    price = Price(10.0, 100.0, batch=0.5)
    with serving(options=Options(batch_seconds=0.02)) as server:
        known_form(tmp_path, server.base_url)
        options = {"price": price, "max_tokens": 50, "max_cost": 0.5} | QUICK
        with teacher_at(server.base_url, tmp_path, **options) as teacher:
            with pytest.raises(CapReached):
                teacher.map(EXTRACT, extract_rows(200))
        paid = dollars(tmp_path, {"stub": price})
        assert 0.4 < paid <= 0.5
        with teacher_at(server.base_url, tmp_path, **options | {"max_cost": 10.0}) as teacher:
            assert all(teacher.map(EXTRACT, extract_rows(200)))
    assert read(tmp_path, "select count(distinct key) from reply where reason is null") == [(200,)]


SCRIPT = """
import sys
from pathlib import Path
from knowtuning.teacher.batch import BatchTeacher
from knowtuning.teacher.prompts import EXTRACT
folder = Path(sys.argv[2])
rows = [(f"r{i}", {"question": "Q?", "answer": f"Fact {i}. More {i}."}) for i in range(40)]
with BatchTeacher("english-rules", folder, base_url=sys.argv[1], poll=0.02) as teacher:
    replies = teacher.map(EXTRACT, rows)
(folder / "out.txt").write_text(repr(replies))
"""


def test_killed_at_every_step_no_batch_is_paid_twice(tmp_path):
    steps = {
        "the form of asking is known": "select * from form",
        "a batch is entered": "select * from batch",
        "a batch is under way": "select * from batch where id <> ''",
        "replies are coming in": "select * from reply limit 1 offset 2",
    }
    log = tmp_path / "log.jsonl"
    command = [sys.executable, str(Path(__file__).parent / "endpoints"), "--model", "english-rules", "--log", str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        base_url = server.stdout.readline().strip()
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), base_url]
        killed = []
        for step, query in steps.items():
            child = subprocess.Popen([*command, str(tmp_path)])
            while child.poll() is None and not read(tmp_path, query):
                time.sleep(0.001)
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                killed.append(step)
            child.wait()
        subprocess.run([*command, str(tmp_path)], check=True, timeout=600)
        (tmp_path / "calm").mkdir()
        paid = Counter(row["key"] for row in read_jsonl(log) if row["outcome"] in ("batch", "reply"))
        subprocess.run([*command, str(tmp_path / "calm")], check=True, timeout=600)
        server.stdin.close()
    assert len(killed) >= 3, killed  # the last step may be over before it is seen
    assert len(paid) == 40 and set(paid.values()) == {1}
    assert (tmp_path / "out.txt").read_text() == (tmp_path / "calm" / "out.txt").read_text()

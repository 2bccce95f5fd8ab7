from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3

import pytest

from knowtuning.files import DataError, read_jsonl
from knowtuning.teacher.endpoint import Features
from knowtuning.teacher.prompts import EXTRACT, REPHRASE, REVISE
from knowtuning.teacher.record import Known, Paid, Record, Reply, cache_key, record_path


def reply(key: str, raw: str = "{}", reason: str | None = None, cap: int = 9, **more) -> Reply:
    return Reply(key, "extract", "m", raw, reason, cap, 10, 1, **more)


def test_a_reply_is_there_again_after_closing(tmp_path):
    with Record(tmp_path / "new") as record:
        record.add([reply("k1", "Größe – 東京"), reply("k2", "no", "it is cut"), reply("k2", "none", "it is empty")])
    with Record(tmp_path / "new") as record:
        known = dict(record.find(["k1", "k2", "k3"], cap=9))
        assert known == {"k1": Known("Größe – 東京"), "k2": Known(None, 2, "it is empty", "none")}
        assert dict(record.find(["k2"], cap=10)) == {}, "with more tokens allowed it starts anew"
        record.forgive("k2")
        assert dict(record.find(["k2"], cap=9)) == {}
        assert (record.paid("k2"), record.paid("k3")) == (Paid(20, 2, 2), Paid()), "paid it is all the same"


def test_many_keys_are_found_and_the_last_usable_reply_counts(tmp_path):
    with Record(tmp_path) as record:
        record.add(reply(f"k{number}", raw) for raw in ("old", "new") for number in range(1200))
        known = dict(record.find((f"k{number}" for number in range(1200)), cap=9))
    assert len(known) == 1200 and {found.raw for found in known.values()} == {"new"}


def test_the_key_changes_with_everything_that_changes_the_reply():
    calls = [
        (EXTRACT, {"question": "Q", "answer": "A"}, "m", {}),
        (EXTRACT, {"question": "Q", "answer": "B"}, "m", {}),
        (EXTRACT, {"question": "Q", "answer": "A"}, "n", {}),
        (EXTRACT, {"question": "Q", "answer": "A"}, "m", {"temperature": 0.0}),
        (REVISE, {"question": "Q", "facts": ["A"]}, "m", {}),
        (REPHRASE, {"question": "Q", "facts": ["A"]}, "m", {}),
    ]
    assert len({cache_key(*call) for call in calls}) == len(calls)


def test_the_key_does_not_change_with_the_order_of_fields():
    one = cache_key(EXTRACT, {"question": "Q", "answer": "A"}, "m", {})
    assert one == cache_key(EXTRACT, {"answer": "A", "question": "Q"}, "m", {})


def test_what_was_paid_is_summed_by_model_price_and_task(tmp_path):
    with Record(tmp_path) as record:
        record.add([reply("a"), reply("b", batch=True), reply("c", "", "no")])
        assert record.spending() == {("m", False): Paid(20, 2, 2), ("m", True): Paid(10, 1, 1)}
        assert record.calls() == {"extract": {"calls": 3, "prompt_tokens": 30, "completion_tokens": 3}}


def test_another_kind_of_file_is_refused_and_left_alone(tmp_path):
    record_path(tmp_path).write_text('[{"instruction": "Q"}]' * 100)
    with pytest.raises(DataError, match=r"record\.sqlite cannot be used \(file is not a database\)"):
        Record(tmp_path)
    assert record_path(tmp_path).read_text() == '[{"instruction": "Q"}]' * 100


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path):
    with Record(tmp_path) as record:
        assert [record._read(f"pragma {name}")[0][0] for name in ("synchronous", "journal_mode")] == [2, "truncate"]


def _die_while_writing(folder):
    record = Record(folder)
    record.add([reply("k1")])
    with record._writing() as database:
        database.execute("update reply set key = 'k2'")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_write_cut_off_by_a_kill_leaves_what_was_there(tmp_path):
    child = multiprocessing.get_context("spawn").Process(target=_die_while_writing, args=(tmp_path,))
    child.start()
    child.join()
    with Record(tmp_path) as record:
        assert child.exitcode == -signal.SIGKILL and list(dict(record.find(["k1", "k2"], cap=9))) == ["k1"]
        record.add([reply("k3")])


def _add_many(folder, name):
    with Record(folder) as record:
        for number in range(50):
            record.add([reply(f"{name}-{number}", "x" * 2000)])


def test_two_processes_write_to_one_record(tmp_path):
    writers = [multiprocessing.get_context("spawn").Process(target=_add_many, args=(tmp_path, n)) for n in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    with Record(tmp_path) as record:
        assert record.spending()["m", False].replies == 100


def test_rows_given_up_are_listed_for_people_until_they_are_served(tmp_path):
    def failure(row_id, task="revise"):
        return {"id": row_id, "task": task, "reason": "no", "raw": "é", "attempts": 3}

    def listed():
        return [(row["task"], row["id"]) for row in read_jsonl(tmp_path / "quarantine.jsonl")]

    with Record(tmp_path) as record:
        record.settle("revise", [], [])
        assert not (tmp_path / "quarantine.jsonl").exists()
        record.settle("revise", [], [failure("r2"), failure("r1")])
        record.settle("extract", [], [failure("r1", "extract")])
        assert listed() == [("extract", "r1"), ("revise", "r2"), ("revise", "r1")]
        record.settle("revise", ["r2"], [failure("r1")])
        assert listed() == [("extract", "r1"), ("revise", "r1")] and record.given_up("revise") == {"r1"}


def test_batches_under_way_and_forms_are_kept(tmp_path):
    with Record(tmp_path) as record:
        record.begin_batch("m1", "extract", {"k1": {"question": "Q?"}})
        record.name_batch("m1", "batch_7")
        record.remember("http://e/v1", "m", Features(structured="text"))
    with Record(tmp_path) as record:
        assert record.batches("extract") == [("m1", "batch_7")] and record.batches("revise") == []
        assert record.requests("m1") == {"k1": {"question": "Q?"}}
        record.end_batch("m1")
        assert (record.batches("extract"), record.requests("m1")) == ([], {})
        assert record.features("http://e/v1", "m").structured == "text"


def test_the_record_can_be_read_by_anybody(tmp_path):
    with Record(tmp_path) as record:
        record.add([reply("k1", json.dumps({"facts": ["A."]}))])
    with sqlite3.connect(record_path(tmp_path)) as database:
        assert database.execute("select task, model, raw ->> 'facts' from reply").fetchall() == [
            ("extract", "m", '["A."]')
        ]

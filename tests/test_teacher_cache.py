from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import threading

import pytest
from knowtuning.teacher.cache import Cache, cache_key, stream_records

from knowtuning.files import DataError
from knowtuning.teacher.prompts import EXTRACT, REPHRASE, REVISE


def record(key: str, text: str = "A.") -> dict:
    return {
        "key": key,
        "task": "extract",
        "model": "m",
        "reply": {"facts": [text]},
        "raw": text,
        "usage": {},
        "time": "",
    }


def test_a_reply_is_there_again_after_closing(tmp_path):
    cache = Cache(tmp_path / "new" / "cache.jsonl")
    cache.append(record("k1", "Größe – 東京"))
    cache.close()
    assert Cache(cache.path).get("k1") == {"facts": ["Größe – 東京"]}
    assert Cache(cache.path).get("k2") is None


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


@pytest.mark.parametrize("kept", [1, 4, 30, -1])
def test_a_torn_last_line_is_cut_before_the_next_is_written(tmp_path, kept):
    cache = Cache(tmp_path / "cache.jsonl")
    cache.append(record("k1"))
    cache.close()
    line = json.dumps(record("k2")).encode()
    with open(cache.path, "ab") as file:
        file.write(line[:kept])
    again = Cache(cache.path)
    again.append(record("k3"))
    assert [again.get(key) is not None for key in ("k1", "k2", "k3")] == [True, False, True]
    assert [json.loads(text)["key"] for text in cache.path.read_text().splitlines()] == ["k1", "k3"]


def test_a_line_torn_by_another_process_is_cut_while_we_are_open(tmp_path):
    cache = Cache(tmp_path / "cache.jsonl")
    cache.append(record("k1"))
    with open(cache.path, "ab") as file:
        file.write(b'{"key": "k2", "ta')
    cache.append(record("k3"))
    assert [json.loads(text)["key"] for text in cache.path.read_text().splitlines()] == ["k1", "k3"]


def test_a_whole_last_record_without_its_line_end_is_kept(tmp_path):
    path = tmp_path / "cache.jsonl"
    path.write_text(json.dumps(record("k1")))
    cache = Cache(path)
    cache.append(record("k2"))
    assert Cache(path).get("k1") and Cache(path).get("k2")


@pytest.mark.parametrize("garbage", ["not json", '{"key": "k2", "task": "extr', '["k2"]', '{"key": "k2"}', "\ufeff{}"])
def test_garbage_in_the_middle_is_named_by_file_and_line(tmp_path, garbage):
    path = tmp_path / "cache.jsonl"
    path.write_text("\n".join([json.dumps(record("k1")), garbage, json.dumps(record("k3"))]) + "\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"cache\.jsonl, line 2: .*remove the line"):
        Cache(path)
    assert path.read_bytes() == before


def test_another_kind_of_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "data.json"
    path.write_text('[{"instruction": "Q"}]')
    with pytest.raises(DataError, match="line 1"):
        Cache(path)
    assert path.read_text() == '[{"instruction": "Q"}]'


def test_a_write_waits_for_the_other_process_to_finish_its_own(tmp_path):
    cache = Cache(tmp_path / "cache.jsonl")
    with open(cache.path, "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        line = json.dumps(record("k1")).encode() + b"\n"
        os.write(other.fileno(), line[:20])
        writer = threading.Thread(target=cache.append, args=(record("k2"),))
        writer.start()
        writer.join(timeout=0.2)
        assert writer.is_alive()
        os.write(other.fileno(), line[20:])
    writer.join(timeout=5)
    assert [json.loads(text)["key"] for text in cache.path.read_text().splitlines()] == ["k1", "k2"]


def _append_many(path, name):
    cache = Cache(path)
    for number in range(200):
        cache.append(record(f"{name}-{number}", "x" * 2000))


def test_two_processes_append_to_one_file(tmp_path):
    path = tmp_path / "cache.jsonl"
    first = Cache(path)
    writers = [multiprocessing.get_context("spawn").Process(target=_append_many, args=(path, n)) for n in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(first) == 0
    first.refresh()
    assert len(first) == 400
    assert len(path.read_text().splitlines()) == 400


def test_many_records_are_written_as_one_by_one(tmp_path):
    one, many = Cache(tmp_path / "one.jsonl"), Cache(tmp_path / "many.jsonl")
    records = [record("k1"), {**record("k2"), "reply": None, "reason": "no", "cap": 9}, record("k1", "B.")]
    for each in records:
        one.append(each)
    many.extend(records)
    assert many.path.read_bytes() == one.path.read_bytes()
    assert many.get("k1") == {"facts": ["B."]} and many.paid("k1") == one.paid("k1") and many.spending == one.spending
    assert ("k1" in many, "k2" in many, "k3" in many) == (True, False, False)


def test_records_longer_than_a_piece_are_read_whole(tmp_path):
    cache = Cache(tmp_path / "cache.jsonl")
    cache.extend([record("k1", "ü" * 10_000), record("k2")])
    assert cache.get("k1") == {"facts": ["ü" * 10_000]} and cache.get("k2") == {"facts": ["A."]}


def test_records_are_streamed_without_the_one_that_is_being_written(tmp_path):
    cache = Cache(tmp_path / "cache.jsonl")
    cache.extend([record("k1"), record("k2")])
    with open(cache.path, "ab") as file:
        file.write(b'{"key": "k3", "ta')
    assert [each["key"] for each in stream_records(cache.path)] == ["k1", "k2"]
    cache.path.write_text("garbage\n")
    with pytest.raises(DataError, match=r"cache\.jsonl, line 1: not a record"):
        list(stream_records(cache.path))

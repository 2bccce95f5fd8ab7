from __future__ import annotations

import hashlib
import json

import pytest

from knowtuning.data.sources import load, read_source
from knowtuning.files import DataError


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def test_alpaca_rows_become_qa_rows_with_ids_from_their_row_numbers(tmp_path):
    rows = [
        {"instruction": "What is rust?", "input": "", "output": "Iron oxide."},
        {"instruction": "Translate.", "input": "Grüß Gott", "output": "Hello.", "category": "x"},
        {"instruction": "", "input": "Only the input asks?", "output": "Yes."},
        {"instruction": "Named", "output": "Kept.", "id": "mine", "source": "elsewhere"},
    ]
    assert load(write(tmp_path / "toy.json", rows)) == [
        {"id": "toy-00001", "question": "What is rust?", "answer": "Iron oxide.", "source": "toy"},
        {"id": "toy-00002", "question": "Translate.\nGrüß Gott", "answer": "Hello.", "source": "toy"},
        {"id": "toy-00003", "question": "Only the input asks?", "answer": "Yes.", "source": "toy"},
        {"id": "mine", "question": "Named", "answer": "Kept.", "source": "elsewhere"},
    ]


def test_jsonl_may_hold_our_fields_or_alpaca_fields(tmp_path):
    lines = [
        '{"question": "A?", "answer": "B.", "id": "q1", "source": "s"}',
        "",
        '{"instruction": "C?", "output": "D."}',
    ]
    rows = load(write(tmp_path / "mixed.jsonl", "\n".join(lines) + "\n"))
    assert [(row["id"], row["question"], row["source"]) for row in rows] == [
        ("q1", "A?", "s"),
        ("mixed-00002", "C?", "mixed"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.json", "", "is empty; give a file with at least one row."),
        ("blank.jsonl", "\n \n", "is empty; give a file with at least one row."),
        ("list.json", "[]", "holds an empty list"),
        ("broken.json", '[{"instruction": "A?"', "is not JSON in UTF-8"),
        ("broken.jsonl", '{"question": "A?", "answer": "B."}\n{"question"', "line 2: not a JSON object"),
        ("object.json", {"instruction": "A?", "output": "B."}, "holds an object; put the rows into a list"),
        ("table.tsv", "question\tanswer", "the form '.tsv' is not read; give a .json, .jsonl, .csv, .parquet file."),
        ("item.json", [{"instruction": "A?", "output": "B."}, 3], "row 2: expected a JSON object, found a number"),
        (
            "gap.json",
            [{"instruction": "A?", "output": "B."}, {"instruction": "C?"}],
            "row 2: field 'output' is missing",
        ),
        ("void.json", [{"instruction": "A?", "input": "", "output": "  "}], "row 1: field 'output' is empty"),
        ("mute.json", [{"instruction": "", "input": "", "output": "B."}], "row 1: field 'instruction' is empty"),
        ("pair.json", [{"instruction": "A?", "output": ["B.", "C."]}], "row 1: field 'output' is a list, not text"),
        ("chat.json", [{"instruction": "A?", "output": "B.", "history": [["x", "y"]]}], "field 'history' is not read"),
        (
            "twins.jsonl",
            '{"id": "a", "question": "A?", "answer": "B."}\n{"id": "a", "question": "C?", "answer": "D."}',
            "row 2: field 'id' is 'a', as in row 1; give every row its own id.",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as error:
        load(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json is missing; give the path of a data file\."):
        load(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(DataError, match=r"folder\.json is a folder; give the path of a data file\."):
        load(tmp_path / "folder.json")


def test_an_unknown_name_lists_the_sources():
    with pytest.raises(
        DataError, match="'doly' is neither a file nor a source; use one of dolly, medquad, lima, nq, eli5"
    ):
        load("doly")
    with pytest.raises(DataError, match="'doly' is neither a file nor a source"):
        load("doly", "rows.json")


def test_query_and_answer_are_read_as_the_hub_has_them(tmp_path):
    [row] = load(write(tmp_path / "nq.jsonl", '{"query": "who?", "answer": "They."}\n'))
    assert row == {"id": "nq-00001", "question": "who?", "answer": "They.", "source": "nq"}


def test_a_local_copy_of_a_named_source_is_told_from_the_readers_own_file(tmp_path):
    path = write(tmp_path / "dolly_train.json", [{"instruction": "A?", "input": "", "output": "B."}])
    named, own = read_source("dolly", path), read_source(path)
    assert named.rows == own.rows == load(path)
    assert (named.removed, own.removed) == ({"without a question or an answer": 0}, {})
    assert (named.origin["name"], named.origin["licence"]) == ("dolly", "cc-by-sa-3.0")
    assert "revision" not in named.origin, "nobody knows the commit of a local copy"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert own.origin == {"name": "dolly_train", "files": {"dolly_train.json": digest}}


def test_a_gap_in_a_published_file_is_counted_and_in_the_readers_own_refused(tmp_path):
    lines = [
        '{"question": "A?", "answer": null}',
        '{"question": " ", "answer": "B."}',
        '{"question": "C?", "answer": "D."}',
    ]
    path = write(tmp_path / "eli5.jsonl", "\n".join(lines))
    loaded = read_source("eli5", path)
    assert [row["id"] for row in loaded.rows] == ["eli5-00003"]
    assert loaded.removed == {"without a question or an answer": 2}
    with pytest.raises(DataError, match="row 1: field 'answer' is null"):
        read_source(path)


def raw_dolly(category, answer, context=""):
    return {"instruction": f"{category}?", "context": context, "response": answer, "category": category}


def test_raw_dolly_rows_are_selected_and_every_step_is_counted(tmp_path):
    ten = "one two three four five six seven eight nine ten"
    raw = [
        raw_dolly("open_qa", ten),
        raw_dolly("general_qa", ten),
        raw_dolly("open_qa", ten),
        raw_dolly("closed_qa", ten, "Read this."),
        raw_dolly("brainstorming", ten),
        raw_dolly("open_qa", ten, "A context."),
        raw_dolly("general_qa", ten.removesuffix(" ten")),
        raw_dolly("general_qa", ""),
    ]
    path = write(tmp_path / "raw.jsonl", "\n".join(map(json.dumps, raw)))
    loaded = read_source("dolly", path)
    assert [row["id"] for row in loaded.rows] == ["dolly-00001", "dolly-00002", "dolly-00003"]
    assert loaded.rows[0] == {"id": "dolly-00001", "question": "open_qa?", "answer": ten, "source": "dolly"}
    assert loaded.removed == {"of another category": 2, "with a context": 1, "under 10 answer words": 2}
    assert len(loaded.rows) + sum(loaded.removed.values()) == len(raw)


def test_of_lima_the_conversations_of_one_turn_are_kept(tmp_path):
    raw = [{"conversations": turns, "source": "x"} for turns in (["Q?", "A."], ["Q?", "A.", "And?", "B."], ["Alone?"])]
    loaded = read_source("lima", write(tmp_path / "train.jsonl", "\n".join(map(json.dumps, raw))))
    assert loaded.rows == [{"id": "lima-00001", "question": "Q?", "answer": "A.", "source": "lima"}]
    assert loaded.removed == {"of several turns": 1, "without an answer": 1}
    path = write(tmp_path / "broken.jsonl", json.dumps({"conversations": "Q? A."}))
    with pytest.raises(DataError, match="row 1: field 'conversations' is a string; give a list of question and answer"):
        load(path)

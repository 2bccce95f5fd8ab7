from __future__ import annotations

import json

import pytest

from knowtuning.artifacts import DataError
from knowtuning.data.sources import duplicates, leaks, load


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
        ("table.csv", "question,answer", "the form '.csv' is not read; give a .json or .jsonl file."),
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


def test_duplicates_are_kept_and_counted(tmp_path):
    rows = [{"instruction": q, "output": a} for q, a in (("A?", "B."), ("A?", "C."), ("A?", "B."), ("A?", "B."))]
    loaded = load(write(tmp_path / "toy.json", rows))
    assert len(loaded) == 4
    assert duplicates(loaded) == 2
    assert duplicates(loaded[:2]) == 0


def test_leaks_are_test_questions_that_train_also_asks(tmp_path):
    train = [{"id": "t1", "question": "What is  Rust?"}, {"id": "t2", "question": "Why?"}]
    test = [{"id": "x1", "question": "what is rust?"}, {"id": "x2", "question": "Who?"}]
    assert leaks(train, test) == [("x1", "t1")]
    assert leaks(train, test[1:]) == []

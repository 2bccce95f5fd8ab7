from __future__ import annotations

import json

import pytest

from knowtuning.data.llamafactory import read_alpaca, read_ranking, write_alpaca, write_dataset_info, write_ranking
from knowtuning.data.sources import load
from knowtuning.files import DataError


def test_alpaca_rows_hold_three_columns_and_come_back(tmp_path):
    rows = [{"id": "x", "question": "Wer war's?", "answer": "Zoë 東京\nund 🙂", "source": "toy", "facts": ["a"]}]
    path = write_alpaca(tmp_path / "ka.json", rows)
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"instruction": "Wer war's?", "input": "", "output": "Zoë 東京\nund 🙂"}
    ]
    assert read_alpaca(path) == [{"question": "Wer war's?", "answer": "Zoë 東京\nund 🙂"}]
    assert load(path)[0]["id"] == "ka-00001"


def test_ranking_rows_hold_string_columns_and_come_back(tmp_path):
    rows = [{"id": "x", "question": "A?", "chosen": "good", "rejected": "bad", "aspect": "factuality"}]
    path = write_ranking(tmp_path / "kc.json", rows)
    assert json.loads(path.read_text()) == [{"instruction": "A?", "input": "", "chosen": "good", "rejected": "bad"}]
    assert read_ranking(path) == [{"question": "A?", "chosen": "good", "rejected": "bad"}]


def test_the_older_list_form_is_read(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps([{"instruction": "A?", "input": "B", "output": ["good", "bad"]}]))
    assert read_ranking(path) == [{"question": "A?\nB", "chosen": "good", "rejected": "bad"}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "A?", "output": "good"}, "row 1: field 'output' is a string; give [chosen, rejected]"),
        ({"instruction": "A?", "output": ["good"]}, "row 1: field 'output' is a list of 1; give [chosen, rejected]"),
        ({"instruction": "A?", "chosen": "good"}, "row 1: field 'rejected' is missing"),
        ({"instruction": "A?", "chosen": "good", "rejected": ""}, "row 1: field 'rejected' is empty"),
    ],
)
def test_a_bad_preference_is_named(tmp_path, row, message):
    path = tmp_path / "kc.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(DataError) as error:
        read_ranking(path)
    assert str(error.value).startswith(f"{path}, {message}")


def test_dataset_info_is_merged_and_names_only_files_that_exist(tmp_path):
    (tmp_path / "dataset_info.json").write_text('{"theirs": {"file_name": "theirs.json"}}')
    write_alpaca(tmp_path / "ka.json", [{"question": "A?", "answer": "B."}])
    write_ranking(tmp_path / "kc.json", [{"question": "A?", "chosen": "B.", "rejected": "C."}])
    write_dataset_info(tmp_path, "ka", "ka.json")
    write_dataset_info(tmp_path, "kc", "kc.json", ranking=True)
    columns = {"prompt": "instruction", "query": "input"}
    assert json.loads((tmp_path / "dataset_info.json").read_text()) == {
        "theirs": {"file_name": "theirs.json"},
        "ka": {"file_name": "ka.json", "columns": columns | {"response": "output"}},
        "kc": {
            "file_name": "kc.json",
            "columns": columns | {"chosen": "chosen", "rejected": "rejected"},
            "ranking": True,
        },
    }
    with pytest.raises(DataError, match=r"none\.json is missing; write it before"):
        write_dataset_info(tmp_path, "none", "none.json")

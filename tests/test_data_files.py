from __future__ import annotations

import pyarrow
import pyarrow.parquet
import pytest

from knowtuning.data.sources import load
from knowtuning.data.tables import read_objects
from knowtuning.files import DataError

ROWS = [
    {"Question": 'Say "NA",\nplease?', "Answer": "NA", "id": "007"},
    {"Question": "Wer war's?", "Answer": "Zoë 東京", "id": "1e3"},
]


def table(path, rows):
    columns = list(rows[0])
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        quoted = [
            ["" if row[name] is None else '"' + row[name].replace('"', '""') + '"' for name in columns] for row in rows
        ]
        path.write_text("\r\n".join(map(",".join, [columns, *quoted])) + "\r\n", encoding="utf-8-sig", newline="")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_keeps_its_text_to_the_letter(tmp_path, suffix):
    rows = load(table(tmp_path / f"toy{suffix}", ROWS))
    assert [(row["id"], row["question"], row["answer"]) for row in rows] == [
        ("007", 'Say "NA",\nplease?', "NA"),
        ("1e3", "Wer war's?", "Zoë 東京"),
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_alpaca_table_is_read_like_an_alpaca_file(tmp_path, suffix):
    rows = [{"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}, {"instruction": "A?"}]
    rows[1] |= {"input": "", "output": "B."}
    assert load(table(tmp_path / f"toy{suffix}", rows)) == [
        {"id": "toy-00001", "question": "Translate.\nGuten Tag", "answer": "Good day", "source": "toy"},
        {"id": "toy-00002", "question": "A?", "answer": "B.", "source": "toy"},
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "A?", "answer": "B."}, {"question": "C?", "answer": "  "}], "row 2: field 'answer' is empty"),
        ([{"question": "A?"}], "row 1: field 'answer' is missing"),
        ([{"a": "A?", "b": "B."}], "row 1: field 'instruction' is missing"),
        (
            [{"question": "A?", "Question": "A?", "answer": "B."}],
            ": two columns are called 'question', letter case aside",
        ),
    ],
)
def test_a_bad_row_of_a_table_is_named(tmp_path, suffix, rows, message):
    path = table(tmp_path / f"toy{suffix}", rows)
    with pytest.raises(DataError) as error:
        load(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("comma.csv", b"question,answer\nA?,B.\nC?,D, E.\n", "row 2: 3 fields for 2 columns; put double quotes around"),
        ("open.csv", b'question,answer\nA?,B.\nC?,"D.\n', "after row 1: not CSV in UTF-8 (unexpected end of data)"),
        ("latin.csv", "question,answer\nWo?,Köln.\n".encode("latin-1"), "not CSV in UTF-8"),
        ("head.csv", b"question,answer\n", "holds no row; give a file with at least one row."),
        ("fake.parquet", b"question,answer\nA?,B.\n", "is not a Parquet file"),
    ],
)
def test_a_broken_table_is_named_with_the_reason(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_objects(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_number_in_a_parquet_table_is_not_taken_for_text(tmp_path):
    path = table(tmp_path / "toy.parquet", [{"question": "How many?", "answer": 7}])
    with pytest.raises(DataError, match="row 1: field 'answer' is a number, not text"):
        load(path)

from __future__ import annotations

import unicodedata

import pytest

from knowtuning.data.records import check_rows, prompt_text
from knowtuning.files import DataError

GOOD = {"id": "a", "question": "What is rust?", "answer": "Iron oxide.", "source": "toy"}


def test_prompt_has_the_alpaca_form_and_ends_where_the_answer_begins():
    assert prompt_text("Why?\nSay it.") == "### Instruction:\nWhy?\nSay it.\n\n### Response:\n"


def test_good_rows_come_back_as_they_are_without_further_fields():
    assert check_rows([GOOD | {"category": "open_qa"}], "toy.jsonl") == [GOOD]


def test_source_is_the_file_stem_where_a_row_names_none():
    row = {key: GOOD[key] for key in ("id", "question", "answer")}
    assert check_rows([row], "folder/toy.jsonl")[0]["source"] == "toy"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["What?", "That."], "toy.jsonl, row 2: expected a JSON object, found a list; give one object per row."),
        ({"id": "b", "question": "Q?"}, "toy.jsonl, row 2: field 'answer' is missing; add it or remove the row."),
        (GOOD | {"id": "b", "answer": " \n"}, "toy.jsonl, row 2: field 'answer' is empty; fill it in"),
        (GOOD | {"id": "b", "question": None}, "toy.jsonl, row 2: field 'question' is null, not text; write it as"),
        (GOOD | {"id": "b", "answer": ["x"]}, "toy.jsonl, row 2: field 'answer' is a list, not text"),
        (GOOD | {"id": 7}, "toy.jsonl, row 2: field 'id' is a number, not text"),
        (GOOD, "toy.jsonl, row 2: field 'id' is 'a', as in row 1; give every row its own id."),
        (GOOD | {"id": "b", "answer": "half \ud83d"}, "toy.jsonl, row 2: field 'answer' holds half of a surrogate"),
    ],
)
def test_a_bad_row_is_named_by_file_row_field_and_reason(row, message):
    with pytest.raises(DataError) as error:
        check_rows([GOOD, row], "toy.jsonl")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_text_is_nfc_and_otherwise_untouched():
    text = "  naïve 東京 🙂 \u200d ½ ﬁn\n\n"
    row = check_rows([GOOD | {"answer": unicodedata.normalize("NFD", text)}], "toy.jsonl")[0]
    assert row["answer"] == text

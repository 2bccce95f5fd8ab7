"""What a question-and-answer row is, how it is checked, and the prompt that it becomes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from knowtuning.files import DataError

Row = dict[str, str]


def prompt_text(question: str) -> str:
    """Return the prompt whose continuation is the answer, in training, scoring and decoding alike.

    It has the form of the Alpaca prompt in llmtuner, without its opening sentence about "an instruction that describes
    a task": a small base has nothing to gain from it. The letter of llmtuner 0.5.3 is a later option.

    Example:
        >>> prompt_text("What is rust?")
        '### Instruction:\\nWhat is rust?\\n\\n### Response:\\n'
    """
    return f"### Instruction:\n{question}\n\n### Response:\n"


def check_rows(rows: Iterable[object], path: str | Path) -> list[Row]:
    """Return QA rows `{"id", "question", "answer", "source"}` in NFC, or raise `DataError` at the first that is none.

    Apart from Unicode form NFC the text stays as it is, blanks and line ends included.

    Args:
        rows: objects read from a file; fields beyond the four are left out, as no stage reads them.
        path: the file that they come from: it stands in the message; its stem is the source where a row names none.

    Raises:
        DataError: a row that is not an object, a field that is missing, blank or not a string, an id that two rows
            share. The message is one sentence with file, row number (from 1), field and cure.
    """
    checked: list[Row] = []
    first_with: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a JSON object, found {kind(row)}; give one object per row.")
        whole = {"source": Path(path).stem, **row}
        good = {field: text_of(whole, field, where) for field in ("id", "question", "answer", "source")}
        if good["id"] in first_with:
            twin = first_with[good["id"]]
            raise DataError(f"{where}: field 'id' is {good['id']!r}, as in row {twin}; give every row its own id.")
        first_with[good["id"]] = number
        checked.append(good)
    return checked


def text_of(row: dict, field: str, where: str) -> str:
    """Return a field's text in Unicode form NFC; `where` ("file, row 3") opens the message of the `DataError`."""
    if field not in row:
        raise DataError(f"{where}: field {field!r} is missing; add it or remove the row.")
    text = row[field]
    if not isinstance(text, str):
        raise DataError(f"{where}: field {field!r} is {kind(text)}, not text; write it as a JSON string.")
    if not text.strip():
        raise DataError(f"{where}: field {field!r} is empty; fill it in or remove the row.")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise DataError(f"{where}: field {field!r} holds half of a surrogate pair; write that character anew in UTF-8.")
    return unicodedata.normalize("NFC", text)


def kind(value: object) -> str:
    """Return what JSON calls the type of a value.

    Example:
        >>> kind([1]), kind(None), kind(2.5)
        ('a list', 'null', 'a number')
    """
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")

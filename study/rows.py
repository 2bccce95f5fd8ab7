"""Tables on disk: JSON with the column names once and a row per line, small, and readable in a diff."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from knowtuning.files import DataError, read_json, shown, write_text

DIGITS = 3
Rows = list[dict[str, Any]]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], **about: Any) -> Path:
    """Write rows with the columns of all of them; a missing value becomes null.

    Floats keep three decimal places, below 1 four significant digits, so that no p-value and no price rounds to 0.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [json.dumps([_short(row.get(name)) for name in columns], ensure_ascii=False) for row in rows]
    head = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)},\n" for name, value in about.items()]
    body = ",\n".join(f"  {line}" for line in lines)
    return write_text(path, f'{{\n{"".join(head)} "columns": {json.dumps(columns)},\n "rows": [\n{body}\n ]\n}}\n')


def read_rows(path: Path) -> Rows:
    """Read what `write_rows` wrote, as a list of dicts."""
    value = read_json(path)
    try:
        return [dict(zip(value["columns"], row, strict=True)) for row in value["rows"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{shown(path)} has no columns and rows that fit ({error}); collect the study again.") from None


def where(rows: Iterable[dict], **wanted: Any) -> Rows:
    """The rows that have all these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def grouped(rows: Iterable[dict], *fields: str) -> dict[tuple, Rows]:
    """Rows by their values of some fields, in the order in which the values come."""
    groups: dict[tuple, Rows] = {}
    for row in rows:
        groups.setdefault(tuple(row[field] for field in fields), []).append(row)
    return groups


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    if not isinstance(value, float):
        return value
    return round(value, DIGITS) if abs(value) >= 1 else float(f"{value:.{DIGITS + 1}g}")

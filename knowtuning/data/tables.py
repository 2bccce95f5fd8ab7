"""The rows of a table, whatever file it lies in: JSON, JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
from pathlib import Path

from knowtuning.data.records import kind
from knowtuning.files import DataError, read_json, read_jsonl

TABLES = (".json", ".jsonl", ".csv", ".parquet")


def read_objects(path: str | Path) -> list[dict]:
    """Read a non-empty table into one object per row, in the order of the file, or raise `DataError` with the cure.

    Args:
        path: `.json` holds a list of objects, `.jsonl` one object per line, `.csv` a line of column names and then
            fields in double quotes where they hold a comma or a line end (UTF-8), `.parquet` whatever pyarrow reads.
            The columns of CSV and Parquet files come in lower case, as "Question" and "question" are both in use.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; give the path of a data file.")
    if path.suffix not in TABLES:
        form = path.suffix or "without suffix"
        raise DataError(f"{path}: the form {form!r} is not read; give a {', '.join(TABLES)} file.")
    if not path.read_bytes().strip():
        raise DataError(f"{path} is empty; give a file with at least one row.")
    read = {".json": read_json, ".jsonl": read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    rows = read[path.suffix](path)
    if not isinstance(rows, list):
        raise DataError(
            f"{path} holds {kind(rows)}; put the rows into a list, or write one per line and name it .jsonl."
        )
    if not rows:
        holds = "an empty list" if path.suffix == ".json" else "no row"
        raise DataError(f"{path} holds {holds}; give a file with at least one row.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, row {number}: expected a JSON object, found {kind(row)}; give one object per row."
            )
    return rows


def _read_csv(path: Path) -> list[dict[str, str]]:
    # the csv module and not pandas or pyarrow: these turn the answers "NA" and "007" into a null and a number
    rows = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            columns = _lower_case(next(lines), path)
            for number, line in enumerate(filter(None, lines), start=1):
                if len(line) != len(columns):
                    raise DataError(
                        f"{path}, row {number}: {len(line)} fields for {len(columns)} columns; "
                        "put double quotes around a field that holds a comma or a line end."
                    )
                rows.append(dict(zip(columns, line, strict=True)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}, after row {len(rows)}: not CSV in UTF-8 ({error}); save it anew as such.") from None
    return rows


def _read_parquet(path: Path) -> list[dict]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a Parquet file ({reason}); fetch or write it anew.") from None
    return table.rename_columns(_lower_case(table.column_names, path)).to_pylist()


def _lower_case(columns: list[str], path: Path) -> list[str]:
    names = [name.strip().casefold() for name in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called {twice!r}, letter case aside; rename or remove one.")
    return names

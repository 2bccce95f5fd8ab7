"""Files read and written so that a kill at any moment leaves no half file, and errors that name file, row and cure."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def runs_folder() -> Path:
    """Where runs are written: `runs/` of the repository, or the folder named by KNOWTUNING_RUNS."""
    return ROOT / os.environ.get("KNOWTUNING_RUNS", "runs")


class DataError(ValueError):
    """A file or a row that cannot be used; the message names the file, the row, the field and the cure."""


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` atomically: a reader sees the old file or the whole new one."""
    return write_parts(path, [text])


def write_parts(path: Path, parts: Iterable[str]) -> Path:
    """Write pieces of text to `path` one by one, atomically; nothing but the piece at hand is in memory."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write one JSON value, indented, UTF-8, keys in the order given."""
    return write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_array(path: Path, rows: Iterable[dict]) -> Path:
    """Write flat rows (no list, no object in them) as one JSON array, in the very bytes of `write_json`, one by one."""

    def parts() -> Iterator[str]:
        opening = "[\n "
        for row in rows:
            fields = (f"{_in_json(name)}: {_in_json(value)}" for name, value in row.items())
            yield opening + "{\n  " + ",\n  ".join(fields) + "\n }"
            opening = ",\n "
        yield "[]\n" if opening.startswith("[") else "\n]\n"

    return write_parts(path, parts())


_in_json = json.JSONEncoder(ensure_ascii=False).encode


def read_json(path: Path) -> Any:
    """Read one JSON value; a missing or broken file raises `DataError` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON in UTF-8 ({error}).") from None


def read_yaml(path: Path) -> Any:
    """Read one YAML value; a broken file raises `DataError` that names it."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{shown(path)} is not YAML in UTF-8 ({' '.join(str(error).split())}).") from None


def write_jsonl(path: Path, rows: Iterable[dict]) -> Path:
    """Write one JSON object per line, UTF-8."""
    return write_parts(path, (_in_json(row) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict]:
    """Read one JSON object per line; a broken line raises `DataError` with file and line number."""
    return list(stream_jsonl(path))


def stream_jsonl(path: Path, start: int = 0, stop: int | None = None) -> Iterator[dict]:
    """As `read_jsonl`, one row at a time; of lines `start` to `stop` (from 0, `stop` left out) where they are given."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    with open(path, "rb") as file:
        for number, line in islice(enumerate(file, start=1), start, stop):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise DataError(f"{path}, line {number}: not a JSON object in UTF-8 ({error}).") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}.")
            yield row


def count_lines(path: Path) -> int:
    """Lines of a file, in as much memory as one piece of it; a last line without its end counts."""
    lines, last = 0, b"\n"
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            lines, last = lines + piece.count(b"\n"), piece[-1:]
    return lines + (last != b"\n")


def sha256(path: Path, deep: bool = True) -> str:
    """Hash of a file, or of a folder's files in the order of their names; `deep`: with those of its folders.

    The card of a model tells of its files and is none of them: its scores come later, and the model stays the same.
    """
    path = Path(path)
    digest = hashlib.sha256()
    for file in sorted(path.glob("**/*" if deep else "*")) if path.is_dir() else [path]:
        if file.is_file() and not (path.is_dir() and file.name == "README.md"):
            if path.is_dir():
                digest.update(str(file.relative_to(path)).encode())
            with open(file, "rb") as content:
                while piece := content.read(2**20):
                    digest.update(piece)
    return digest.hexdigest()


def shown(path: Path) -> str:
    """A path as a message shows it: relative to the repository where it lies inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)

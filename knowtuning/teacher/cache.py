"""The teacher's replies on record: an append-only JSONL file that survives kill -9 and serves several processes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from knowtuning.artifacts import DataError
from knowtuning.teacher.prompts import Task, response_format

_OPENING = b'{"key": "'


def cache_key(task: Task, inputs: dict, model: str, sampling: dict) -> str:
    """The sha256 (hex) that names a call: task, prompt version, schema, model, sampling and inputs, as canonical JSON.

    The cap on reply tokens is no part of `sampling`: a cut reply is never recorded, so raising the cap must not repeat
    the calls that were paid.
    """
    call = {
        "task": task.name,
        "version": task.version,
        "schema": response_format(task)["json_schema"]["schema"],
        "model": model,
        "sampling": sampling,
        "inputs": inputs,
    }
    return hashlib.sha256(json.dumps(call, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Cache:
    """Recorded replies by key, in one file, one record a line.

    A record holds `key`, `task`, `model`, `reply` (checked), `raw` (the teacher's text), `usage` and `time` (UTC).
    It is written under a file lock before `append` returns, so that a killed process loses no recorded reply. A torn
    last line is what a kill in the middle of a write leaves behind: it is cut off. Any other line that is no record
    raises `DataError` with file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._offset = 0
        self._lines = 0
        self._replies: dict[str, dict] = {}
        try:
            self.refresh()
        except DataError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, key: str) -> dict | None:
        """The recorded reply object under `key`; the last one counts where a key was recorded twice."""
        return self._replies.get(key)

    def refresh(self) -> None:
        """Read what other processes have recorded since this one last looked."""
        with self._locked():
            self._read_new()

    def append(self, record: dict) -> None:
        """Record one reply; `record` starts with its `key`."""
        line = json.dumps({"key": record["key"], **record}, ensure_ascii=False).encode() + b"\n"
        with self._locked():
            self._read_new()
            self._write(line)
            self._take(line)

    def close(self) -> None:
        """Close the file; the records read so far stay readable."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _read_new(self) -> None:
        with open(os.dup(self._descriptor), "rb") as file:
            file.seek(self._offset)
            for line in file:
                if line.endswith(b"\n"):
                    self._take(line)
                else:
                    self._mend(line)

    def _take(self, line: bytes) -> None:
        if line.strip():
            record = self._parse(line)
            self._replies[record["key"]] = record["reply"]
        self._lines += 1
        self._offset += len(line)

    def _mend(self, tail: bytes) -> None:
        """Cut off a line without an end: we hold the lock, so nobody is writing it any more. A whole record is kept."""
        try:
            self._parse(tail)
        except DataError:
            if not (tail.startswith(_OPENING) or _OPENING.startswith(tail)):
                raise
            os.ftruncate(self._descriptor, self._offset)
        else:
            self._write(b"\n")
            self._take(tail + b"\n")

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _parse(self, line: bytes) -> dict:
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._garbage(f"not JSON in UTF-8: {error}") from None
        if not (
            isinstance(record, dict) and isinstance(record.get("key"), str) and isinstance(record.get("reply"), dict)
        ):
            raise self._garbage("no object with a key and a reply")
        return record

    def _garbage(self, reason: str) -> DataError:
        return DataError(
            f"{self.path}, line {self._lines + 1}: not a record of a teacher cache ({reason}); "
            "remove the line, or name another file as the cache."
        )

"""The teacher's replies on record: an append-only JSONL file that survives kill -9 and serves several processes."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from knowtuning.files import DataError
from knowtuning.teacher.prompts import Task, response_format

_OPENING = b'{"key": "'
_PIECE = 4096  # bytes: more than most records have
_TABLE = """
create table call (
    key text primary key, offset integer, unusable integer default 0, cap integer default 0, last integer,
    prompt integer default 0, completion integer default 0, replies integer default 0
) without rowid
"""


class Paid(NamedTuple):
    """What is on record for one call: tokens of all its replies, the unusable ones included, and their number."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    replies: int = 0


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def cache_key(task: Task, inputs: dict, model: str, sampling: dict) -> str:
    """The sha256 (hex) that names a call: task, prompt version, schema, model, sampling and inputs, as canonical JSON.

    The cap on reply tokens is no part of `sampling`: raising the cap must not repeat the calls that were paid.
    """
    # "inputs" is the first of the sorted names, so that the others are written once and not for every call
    call = f'{{"inputs":{_canonical(inputs)},{_of_all_calls(task, model, _canonical(sampling))}'
    return hashlib.sha256(call.encode()).hexdigest()


@functools.cache
def _of_all_calls(task: Task, model: str, sampling: str) -> str:
    """What the calls of one task to one model share, as the rest of a canonical JSON object."""
    schema = response_format(task)["json_schema"]["schema"]
    shared = {
        "model": model,
        "sampling": json.loads(sampling),
        "schema": schema,
        "task": task.name,
        "version": task.version,
    }
    return _canonical(shared)[1:]


def charge(spending: dict[tuple[str, bool], Paid], record: dict) -> None:
    """Add what a record cost to the account of its model and price."""
    if record.get("forgiven"):
        return
    usage = record.get("usage") or {}
    paid = Paid(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), 1)
    account = record.get("model", ""), bool(record.get("batch"))
    spending[account] = Paid(*map(sum, zip(spending.get(account, Paid()), paid, strict=True)))


def stream_records(path: Path) -> Iterator[dict]:
    """The records of a cache's file one by one, without an index; a last line that is not whole yet is left out."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n") and line.strip():
                yield parse_record(line, path, number)


def parse_record(line: bytes, path: Path, number: int) -> dict:
    """One line of a cache's file; `DataError` names file and line of one that is no record."""
    try:
        record = json.loads(line)
        reason = "no object with a key and a reply"
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        record, reason = None, f"not JSON in UTF-8: {error}"
    if isinstance(record, dict) and isinstance(record.get("key"), str) and _has_outcome(record):
        return record
    raise DataError(
        f"{path}, line {number}: not a record of a teacher cache ({reason}); "
        "remove the line, or name another file as the cache."
    )


class Cache:
    """Every paid reply by its call's key, in one file, one record a line; the file is also the account of the spending.

    A record holds `key`, `task`, `model`, `reply` (checked; null with a `reason` and the `cap` on tokens for a reply
    that could not be used), `raw` (the teacher's text), `usage`, `time` (UTC), and `batch` where it came by half price.
    It is written under a file lock before `append` returns, so that a killed process loses no recorded reply. A torn
    last line is what a kill in the middle of a write leaves behind: it is cut off. Any other line that is no record
    raises `DataError` with file and line.

    In memory are only a few numbers: keys and places lie in a private index on disk, so that a hundred thousand
    replies need no more memory than a hundred.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._offset = 0
        self._lines = 0
        # a nameless database is private, temporary and spills to disk; losing it costs nothing but a new scan
        self._index = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._index.executescript("pragma journal_mode=off; pragma synchronous=off;" + _TABLE)
        self.spending: dict[tuple[str, bool], Paid] = {}
        try:
            self.refresh()
        except DataError:
            self.close()
            raise

    def __len__(self) -> int:
        return self._index.execute("select count(*) from call where offset is not null").fetchone()[0]

    def __contains__(self, key: str) -> bool:
        """Whether a usable reply is on record under `key`."""
        row = self._index.execute("select offset from call where key = ?", (key,)).fetchone()
        return row is not None and row[0] is not None

    def get(self, key: str) -> dict | None:
        """The recorded reply object under `key`; the last one counts where a key was recorded twice."""
        row = self._index.execute("select offset from call where key = ?", (key,)).fetchone()
        return None if row is None or row[0] is None else self._record_at(row[0])["reply"]

    def unusable(self, key: str, cap: int) -> tuple[int, dict | None]:
        """How many unusable replies are on record for a call at this cap on tokens, and the last of these records."""
        row = self._index.execute("select unusable, cap, last from call where key = ?", (key,)).fetchone()
        return (row[0], self._record_at(row[2])) if row and row[0] and row[1] == cap else (0, None)

    def paid(self, key: str) -> Paid:
        """The tokens that one call has cost so far."""
        row = self._index.execute("select prompt, completion, replies from call where key = ?", (key,)).fetchone()
        return Paid(*row) if row else Paid()

    def forgive(self, key: str | None = None) -> None:
        """Let a call, or every call without a usable reply, be asked anew: its unusable replies no longer count."""
        failed = self._index.execute("select key from call where unusable > 0 and offset is null").fetchall()
        for each in [key] if key else [row[0] for row in failed]:
            self.append({"key": each, "forgiven": True})

    def refresh(self) -> None:
        """Read what other processes have recorded since this one last looked."""
        with self._locked():
            self._read_new()

    def append(self, record: dict) -> None:
        """Record one reply; `record` starts with its `key`."""
        self.extend([record])

    def extend(self, records: Iterable[dict]) -> None:
        """Record several replies under one lock, in one write."""
        records = list(records)
        lines = [json.dumps({"key": each["key"], **each}, ensure_ascii=False).encode() + b"\n" for each in records]
        with self._locked():
            if os.fstat(self._descriptor).st_size != self._offset:
                self._read_new()
            self._write(b"".join(lines))
            with self._indexing():
                for record, line in zip(records, lines, strict=True):
                    self._enter(record, len(line))

    def close(self) -> None:
        """Close the file and forget the index."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._index.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @contextmanager
    def _indexing(self) -> Iterator[None]:
        """One transaction for many rows of the index."""
        self._index.execute("begin")
        try:
            yield
        finally:
            self._index.execute("commit")

    def _read_new(self) -> None:
        with open(os.dup(self._descriptor), "rb") as file, self._indexing():
            file.seek(self._offset)
            for line in file:
                if line.endswith(b"\n"):
                    self._take(line)
                else:
                    self._mend(line)

    def _take(self, line: bytes) -> None:
        if line.strip():
            self._enter(parse_record(line, self.path, self._lines + 1), len(line))
        else:
            self._lines += 1
            self._offset += len(line)

    def _enter(self, record: dict, length: int) -> None:
        """Note where a record lies and what it cost."""
        key, place = record["key"], self._offset
        self._lines += 1
        self._offset += length
        if record.get("forgiven"):
            self._index.execute("update call set unusable = 0 where key = ?", (key,))
            return
        usage = record.get("usage") or {}
        tokens = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        good = record["reply"] is not None
        self._index.execute(
            "insert into call (key, offset, unusable, cap, last, prompt, completion, replies) "
            "values (?, ?, ?, ?, ?, ?, ?, 1) on conflict (key) do update set "
            "offset = coalesce(excluded.offset, offset), "
            "unusable = iif(excluded.unusable and cap = excluded.cap, unusable, 0) + excluded.unusable, "
            "cap = excluded.cap, last = excluded.last, prompt = prompt + excluded.prompt, "
            "completion = completion + excluded.completion, replies = replies + 1",
            (key, place if good else None, 0 if good else 1, record.get("cap", 0), place, *tokens),
        )
        charge(self.spending, record)

    def _record_at(self, offset: int) -> dict:
        line = b""
        while b"\n" not in line:
            line += os.pread(self._descriptor, _PIECE, offset + len(line))
        return json.loads(line[: line.index(b"\n")])

    def _mend(self, tail: bytes) -> None:
        """Cut off a line without an end: we hold the lock, so nobody is writing it any more. A whole record is kept."""
        try:
            parse_record(tail, self.path, self._lines + 1)
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


def _has_outcome(record: dict) -> bool:
    reply = record.get("reply")
    return isinstance(reply, dict) or (reply is None and ("reason" in record or record.get("forgiven") is True))

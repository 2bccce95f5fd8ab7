"""What the teacher said and what it cost: one SQLite file, to which every reply goes before anything else uses it.

A commit returns when the disk has it (`synchronous=FULL`, with a rollback journal: that works on a shared filesystem
too), so that a recorded reply survives kill -9 and a power cut, as far as the disk keeps what it confirms. Several
processes may use one record at once.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from knowtuning.files import DataError, write_jsonl
from knowtuning.teacher.endpoint import Features
from knowtuning.teacher.prompts import Task, response_format

PATIENCE = 600.0  # seconds that a process waits while others write
LOOKED_UP = 500  # calls at once
_TABLES = """
pragma journal_mode = truncate;
pragma synchronous = full;
create table if not exists reply (
    place integer primary key, id text not null unique, key text not null, task text not null, model text not null,
    raw text, reason text, cap integer not null, prompt_tokens integer not null, completion_tokens integer not null,
    guessed integer not null, batch integer not null, time text not null, forgiven integer not null default 0,
    shard text
);
create index if not exists replies_to on reply (key);
create index if not exists spending on reply (model, batch, shard, task, prompt_tokens, completion_tokens);
create table if not exists quarantine (
    place integer primary key, task text, id text, reason text, raw text, attempts integer, unique (task, id)
);
create table if not exists form (endpoint text, model text, features text, primary key (endpoint, model));
create table if not exists batch (mark text primary key, task text, id text);
create table if not exists request (mark text, key text, inputs text, primary key (mark, key)) without rowid;
"""
_REPLY = "id, key, task, model, raw, reason, cap, prompt_tokens, completion_tokens, guessed, batch, time"


class Paid(NamedTuple):
    """What is on record for some calls: tokens of all their replies, the unusable ones included, and their number."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    replies: int = 0


@dataclass(frozen=True)
class Reply:
    """One reply as it came: `raw` is its text, `reason` why it could not be used (None where it could).

    `cap`: the most tokens that it was allowed. `guessed`: the endpoint counted no tokens. `batch`: it came at the
    price of the Batch API.
    """

    key: str
    task: str
    model: str
    raw: str | None
    reason: str | None
    cap: int
    prompt_tokens: int
    completion_tokens: int
    guessed: bool = False
    batch: bool = False


class Known(NamedTuple):
    """What is on record of a call: its last usable reply, and how many unusable ones count, with the last of them."""

    raw: str | None = None
    unusable: int = 0
    reason: str = ""
    unusable_raw: str | None = None


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
    shared = {"model": model, "sampling": json.loads(sampling), "schema": schema}
    return _canonical(shared | {"task": task.name, "version": task.version})[1:]


class Record:
    """The record in `folder`: replies and rows given up, the form of asking, batches under way.

    The rows given up are written to `quarantine.jsonl` as well, for people to read. May be used by several threads.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = record_path(folder)
        self._one_at_a_time = threading.RLock()
        self._database = sqlite3.connect(self.path, PATIENCE, isolation_level=None, check_same_thread=False)
        with self._errors_named():
            self._database.executescript(_TABLES)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # --- replies

    def add(self, replies: Iterable[Reply]) -> None:
        """Put replies on record; when this returns, the disk has them."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = [(uuid.uuid4().hex, *asdict(reply).values(), now) for reply in replies]
        with self._writing() as database:
            database.executemany(f"insert into reply ({_REPLY}) values ({', '.join('?' * 12)})", rows)

    def find(self, keys: Iterable[str], cap: int) -> Iterator[tuple[str, Known]]:
        """What is on record of some calls, by key; of unusable replies count those that were allowed `cap` tokens."""
        keys, query = iter(keys), "select key, raw, reason from reply where key in (%s) "
        query += "and (reason is null or cap = ? and not forgiven) order by place"
        while some := list(islice(keys, LOOKED_UP)):
            known: dict[str, Known] = {}
            for key, raw, reason in self._read(query % ", ".join("?" * len(some)), *some, cap):
                before = known.get(key, Known())
                if reason is None:
                    known[key] = before._replace(raw=raw)
                else:
                    known[key] = before._replace(unusable=before.unusable + 1, reason=reason, unusable_raw=raw)
            yield from known.items()

    def forgive(self, key: str | None = None) -> None:
        """Let a call, or every call, be asked anew: its unusable replies no longer count."""
        which = "" if key is None else " and key = ?"
        with self._writing() as database:
            database.execute(f"update reply set forgiven = 1 where reason is not null{which}", [key] if key else [])

    def paid(self, key: str) -> Paid:
        """The tokens that one call has cost so far."""
        query = "select total(prompt_tokens), total(completion_tokens), count(*) from reply where key = ?"
        return Paid(*map(int, self._read(query, key)[0]))

    def spending(self, but_shards_of: int = 0) -> dict[tuple[str, bool], Paid]:
        """What is on record by model and whether it came at the price of a batch; leaves out shards "i/N" of an N."""
        query = "select model, batch, sum(prompt_tokens), sum(completion_tokens), count(*) from reply"
        query += " where shard is null or shard not like ? group by model, batch"
        return {(model, bool(batch)): Paid(*paid) for model, batch, *paid in self._read(query, f"%/{but_shards_of}")}

    def calls(self) -> dict[str, dict[str, int]]:
        """Replies and tokens by task."""
        query = "select task, count(*), sum(prompt_tokens), sum(completion_tokens) from reply group by task"
        names = "calls", "prompt_tokens", "completion_tokens"
        order = " order by min(place)"
        return {task: dict(zip(names, counts, strict=True)) for task, *counts in self._read(query + order)}

    def merge(self, other: Path, shard: str) -> dict[str, int]:
        """Take over replies and rows given up from the record in another folder, marked with the shard that paid.

        What is here already is not put here again; a row given up moves, and leaves the other record. Returns counts.
        """
        with self._one_at_a_time, self._errors_named():
            self._database.execute("attach ? as other", [str(record_path(other))])
            try:
                with self._writing() as database:
                    added = database.execute(
                        f"insert or ignore into reply ({_REPLY}, forgiven, shard) select {_REPLY}, forgiven, ? "
                        "from other.reply where key not in (select key from reply where reason is null) order by place",
                        [shard],
                    ).rowcount
                    moved = database.execute(
                        "insert or replace into quarantine (task, id, reason, raw, attempts) "
                        "select task, id, reason, raw, attempts from other.quarantine order by place"
                    ).rowcount
                    database.execute("delete from other.quarantine")
                    self._show_quarantine()
            finally:
                self._database.execute("detach other")
        return {"replies": added, "quarantined": moved}

    # --- rows given up

    def given_up(self, task: str) -> set[str]:
        """The ids of `task` that are in quarantine now."""
        return {row_id for (row_id,) in self._read("select id from quarantine where task = ?", task)}

    def settle(self, task: str, healed: Iterable[str], failures: list[dict]) -> None:
        """Take the `healed` ids of `task` out of quarantine, put in what failed now, and write `quarantine.jsonl`.

        `failures`: `{"id", "task", "reason", "raw", "attempts"}` in the rows' order.
        """
        healed = [(task, row_id) for row_id in healed]
        if healed or failures:
            with self._writing() as database:
                database.executemany("delete from quarantine where task = ? and id = ?", healed)
                database.executemany(
                    "insert or replace into quarantine (id, task, reason, raw, attempts) "
                    "values (:id, :task, :reason, :raw, :attempts)",
                    failures,
                )
                self._show_quarantine()

    def _show_quarantine(self) -> None:
        names = "id", "task", "reason", "raw", "attempts"
        rows = self._read(f"select {', '.join(names)} from quarantine order by task, place")
        write_jsonl(self.folder / "quarantine.jsonl", (dict(zip(names, row, strict=True)) for row in rows))

    # --- how the endpoint is asked, and batches under way

    def features(self, endpoint: str, model: str) -> Features:
        """What was found out about a model earlier; the defaults of today's OpenAI where nothing was."""
        known = self._read("select features from form where endpoint = ? and model = ?", endpoint, model)
        return Features(**json.loads(known[0][0])) if known else Features()

    def remember(self, endpoint: str, model: str, features: Features) -> None:
        """Keep what was found out."""
        with self._writing() as database:
            values = endpoint, model, json.dumps(asdict(features))
            database.execute("insert or replace into form values (?, ?, ?)", values)

    def begin_batch(self, mark: str, task: str, requests: dict[str, dict]) -> None:
        """Enter a batch, with the inputs of its calls by key, before it is sent."""
        with self._writing() as database:
            database.execute("insert into batch values (?, ?, '')", [mark, task])
            rows = ((mark, key, json.dumps(inputs)) for key, inputs in requests.items())
            database.executemany("insert into request values (?, ?, ?)", rows)

    def name_batch(self, mark: str, batch_id: str) -> None:
        """Enter the id that the endpoint gave to a batch."""
        with self._writing() as database:
            database.execute("update batch set id = ? where mark = ?", [batch_id, mark])

    def batches(self, task: str) -> list[tuple[str, str]]:
        """Mark and id (empty where it is not known) of the batches under way of a task."""
        return self._read("select mark, id from batch where task = ?", task)

    def requests(self, mark: str) -> dict[str, dict]:
        """Inputs by key of the calls of a batch."""
        return {
            key: json.loads(inputs)
            for key, inputs in self._read("select key, inputs from request where mark = ?", mark)
        }

    def end_batch(self, mark: str) -> None:
        """Strike off a batch whose replies are all on record."""
        with self._writing() as database:
            database.execute("delete from batch where mark = ?", [mark])
            database.execute("delete from request where mark = ?", [mark])

    # --- the file

    def _read(self, query: str, *values: object) -> list[tuple]:
        with self._one_at_a_time, self._errors_named():
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on the disk afterwards, or nothing."""
        with self._one_at_a_time, self._errors_named():
            self._database.execute("begin immediate")
            try:
                yield self._database
                self._database.execute("commit")
            except BaseException:
                self._database.execute("rollback")
                raise

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            cure = "make room, or name another folder for the teacher's record"
            raise DataError(f"{self.path} cannot be used ({error}): {cure}.") from error


def record_path(folder: Path | str) -> Path:
    """Where the record of a folder lies."""
    return Path(folder) / "record.sqlite"

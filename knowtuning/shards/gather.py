"""What joins the shards: their replies and rows given up in the run's own record, their scores, their artefacts."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice, product
from pathlib import Path
from typing import Any

from knowtuning.files import DataError, read_json, shown, stream_jsonl, write_parts
from knowtuning.knowledge.pipeline import augmented, write_ka, write_kc
from knowtuning.run import Run
from knowtuning.shards.shard import STAGES, Shard, scored_by
from knowtuning.teacher.cache import Cache, Paid, charge, stream_records
from knowtuning.teacher.prices import Price, load_price, spent
from knowtuning.teacher.quarantine import move

APPEND = 1000  # records written at once


def gather(run: Run, of: int) -> dict[str, int]:
    """Put every reply in the caches of `of` shards into the run's own cache, and what failed into its quarantine.

    Then the notebooks run over all rows and are answered from the cache; what no shard has done they ask themselves. A
    record that is there already is not put there again. Returns counts.
    """
    shards = [shard for shard in _all(of) if (shard.teacher(run) / "cache.jsonl").exists()]
    if not shards:
        raise DataError(
            f"{shown(run.teacher / 'shards')} holds no shard of {of}: run `knowtuning shard extract 1/{of}` and the "
            "others first."
        )
    counts = Counter(shards=len(shards))
    with _alone(run), closing(Cache(run.teacher / "cache.jsonl")) as cache:
        for shard in shards:
            new = _new_records(cache, shard, run)
            while records := list(islice(new, APPEND)):
                cache.extend(records)
                counts["replies"] += len(records)
            counts["quarantined"] += move(shard.teacher(run) / "quarantine.jsonl", run.teacher / "quarantine.jsonl")
    return dict(counts)


def share(run: Run, of: int, max_cost: float, model: str = "", price: Price | None = None) -> float:
    """The dollars that each of `of` shards may cost: its part of the cap, less what others spent from it before.

    What the shards themselves spent and `gather` put into the run's cache is not taken off again.
    """
    spending: dict[tuple[str, bool], Paid] = {}
    path = run.teacher / "cache.jsonl"
    for record in stream_records(path) if path.exists() else ():
        if not str(record.get("shard", "")).endswith(f"/{of}"):
            charge(spending, record)
    price_of = {name: load_price(name) for name, _ in spending} | ({model: price} if price else {})
    return max(0.0, max_cost - spent(spending, price_of)) / of


def scores(run: Run) -> dict[tuple[str, int, str], tuple[float, int]]:
    """Scores of shards under the model of today, (nll, tokens) by (id, index, fact); none where the model is another.

    For `score_facts(known=…)` in notebook 04: what is known is not computed again.
    """
    known: dict[tuple[str, int, str], tuple[float, int]] = {}
    now = None
    for account in sorted(run.path("shards").glob("*/difficulty.json")):
        now = now or scored_by(run, run.parameters.get("condition_on_question", True))
        if read_json(account)["scored_by"] == now:
            for row in stream_jsonl(account.with_suffix(".jsonl")):
                known[row["id"], row["index"], row["fact"]] = row["nll"], row["tokens"]
    return known


class Rows:
    """Rows that can be gone through as often as those of a list, without being held in memory."""

    def __init__(self, stream: Callable[[], Iterator[dict]]) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[dict]:
        return self.stream()


def write_artefacts(run: Run, of: int) -> dict[str, Any]:
    """Write what notebooks 03 to 06 write, from the rows of all shards, one row at a time; returns counts.

    For numbers of rows that no notebook should hold. The bytes are those that the notebooks write.
    """
    counts: dict[str, Counter] = {stage: Counter() for stage in STAGES}
    asked: Counter[str] = Counter()
    for stage, shard in product(STAGES, _all(of)):
        account = read_json(shard.need(run, stage).with_suffix(".json"))
        counts[stage].update(account["counts"])
        asked.update(account.get("teacher", {}))

    def lines(stage: str) -> Iterator[str]:
        for shard in _all(of):
            with open(shard.output(run, stage), encoding="utf-8", newline="\n") as file:
                yield from file

    def rows(stage: str) -> Iterator[dict]:
        return chain.from_iterable(stream_jsonl(shard.output(run, stage)) for shard in _all(of))

    train = Path(run.need("data/train.jsonl"))
    for name, stage in (("facts.jsonl", "extract"), ("difficulty.jsonl", "score")):
        run.wrote(name, write_parts(run.path(name), lines(stage)))
    write_ka(run, Rows(lambda: augmented(stream_jsonl(train), rows("rewrite"))))
    write_kc(run, Rows(lambda: rows("disturb")))
    return {**counts, "teacher_asked": asked["asked"], "teacher_failed": asked["quarantined"]}


def _all(of: int) -> list[Shard]:
    return [Shard(number, of) for number in range(1, of + 1)]


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """One gathering at a time: two would each take the other's records for missing."""
    run.teacher.mkdir(parents=True, exist_ok=True)
    with open(run.teacher / ".gather.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _new_records(cache: Cache, shard: Shard, run: Run) -> Iterator[dict]:
    """The records of a shard's cache that the run's cache lacks, marked with the shard that paid for them.

    A key has one usable reply, and as many unusable ones as it took: the first of these are there already when an
    earlier gathering has brought them.
    """
    there: dict[str, int] = {}
    seen: Counter[str] = Counter()
    for record in stream_records(shard.teacher(run) / "cache.jsonl"):
        key = record["key"]
        if key in cache:
            continue
        if record.get("reply") is None:
            there.setdefault(key, cache.paid(key).replies)
            if seen[key] < there[key]:
                seen[key] += not record.get("forgiven")
                continue
        yield record | {"shard": str(shard)}

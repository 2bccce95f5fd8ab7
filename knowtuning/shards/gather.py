"""What joins the shards: their replies and rows given up in the run's own record, their scores, their artefacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

from knowtuning.files import DataError, read_json, shown, stream_jsonl, write_parts
from knowtuning.knowledge.pipeline import augmented, write_ka, write_kc
from knowtuning.run import Run
from knowtuning.shards.shard import STAGES, Shard, scored_by
from knowtuning.teacher.budget import Price, dollars_of, load_price
from knowtuning.teacher.record import Record, record_path


def gather(run: Run, of: int) -> dict[str, int]:
    """Put every reply on record in `of` shards into the run's own record, and what failed into its quarantine.

    Then the notebooks run over all rows and are answered from the record; what no shard has done they ask themselves. A
    reply that is there already is not put there again. Returns counts.
    """
    shards = [shard for shard in _all(of) if record_path(shard.teacher(run)).exists()]
    if not shards:
        raise DataError(
            f"{shown(run.teacher / 'shards')} holds no shard of {of}: run `knowtuning shard extract 1/{of}` and the "
            "others first."
        )
    counts = Counter(shards=len(shards))
    with Record(run.teacher) as record:
        for shard in shards:
            counts.update(record.merge(shard.teacher(run), str(shard)))
    return dict(counts)


def share(run: Run, of: int, max_cost: float, price_of: Callable[[str], Price | None] = load_price) -> float:
    """The dollars that each of `of` shards may cost: its part of the cap, less what others spent from it before.

    What the shards themselves spent and `gather` put into the run's record is not taken off again. `price_of`: the
    price of a model by its name.
    """
    if not record_path(run.teacher).exists():
        return max_cost / of
    with Record(run.teacher) as record:
        return max(0.0, max_cost - dollars_of(record.spending(but_shards_of=of), price_of)) / of


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

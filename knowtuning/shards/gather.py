"""What joins the shards: their records in the run's own, their scores, and their rows as artefacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from knowtuning.data import llamafactory
from knowtuning.files import DataError, read_json, shown, stream_jsonl, write_jsonl, write_parts
from knowtuning.run import Run
from knowtuning.shards.shard import STAGES, Shard
from knowtuning.shards.stages import scored_by
from knowtuning.teacher.budget import Price, dollars_of
from knowtuning.teacher.record import Record, record_path

Score = tuple[float, int]


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


def share(run: Run, of: int, max_cost: float, model: str, price: Price | None = None) -> float:
    """The dollars that each of `of` shards may cost: its part of the cap, less what others spent from it before.

    What the shards themselves spent and `gather` put into the run's record is not taken off again.
    """
    if not record_path(run.teacher).exists():
        return max_cost / of
    with Record(run.teacher) as record:
        spent = dollars_of(record.spending(but_shards_of=of), {model: price} if price else {})
    return max(0.0, max_cost - spent) / of


def scores(run: Run) -> dict[tuple[str, int, str], Score]:
    """Scores of shards under the model of today, (nll, tokens) by (id, index, fact); none where the model is another.

    For `score_facts(known=…)` in notebook 04: what is known is not computed again.
    """
    known: dict[tuple[str, int, str], Score] = {}
    now = None
    for account in sorted(run.path("shards").glob("*/difficulty.json")):
        now = now or scored_by(run, run.parameters.get("condition_on_question", True))
        if read_json(account)["scored_by"] == now:
            for row in stream_jsonl(account.with_suffix(".jsonl")):
                known[row["id"], row["index"], row["fact"]] = row["nll"], row["tokens"]
    return known


def write_artefacts(run: Run, of: int) -> dict[str, Any]:
    """Write what notebooks 03 to 06 write, from the rows of all shards, one row at a time; returns counts.

    For numbers of rows that no notebook should hold. The bytes are those that the notebooks write.
    """
    counts: dict[str, Counter] = {stage: Counter() for stage in STAGES}
    asked: Counter[str] = Counter()
    for stage, shard in product(STAGES, _all(of)):
        shard.need(run, stage)
        account = read_json(shard.account(run, stage))
        counts[stage].update(account["counts"])
        asked.update(account.get("teacher", {}))
    for name, stage in (("facts.jsonl", "extract"), ("difficulty.jsonl", "score")):
        run.wrote(name, write_parts(run.path(name), _lines(run, of, stage)))
    run.wrote("ka.json", llamafactory.write_alpaca(run.path("ka.json"), _augmented(run, of)))
    llamafactory.write_dataset_info(run.root, "ka", "ka.json", ranking=False)
    provenance = ({name: row[name] for name in ("id", "from", "facts")} for row in _augmented(run, of))
    run.wrote("ka.provenance.jsonl", write_jsonl(run.path("ka.provenance.jsonl"), provenance))
    run.wrote("kc.json", llamafactory.write_ranking(run.path("kc.json"), _rows(run, of, "disturb")))
    llamafactory.write_dataset_info(run.root, "kc", "kc.json", ranking=True)
    kept = ("id", "aspect", "facts", "disturbed")
    provenance = ({name: row[name] for name in kept} for row in _rows(run, of, "disturb"))
    run.wrote("kc.provenance.jsonl", write_jsonl(run.path("kc.provenance.jsonl"), provenance))
    return {**counts, "teacher_asked": asked["asked"], "teacher_failed": asked["quarantined"]}


def _all(of: int) -> list[Shard]:
    return [Shard(number, of) for number in range(1, of + 1)]


def _lines(run: Run, of: int, stage: str) -> Iterator[str]:
    for shard in _all(of):
        with open(shard.output(run, stage), encoding="utf-8", newline="\n") as file:
            yield from file


def _rows(run: Run, of: int, stage: str) -> Iterator[dict]:
    for shard in _all(of):
        yield from stream_jsonl(shard.output(run, stage))


def _augmented(run: Run, of: int) -> Iterator[dict]:
    """D_ka = D + D*, as notebook 05 puts it together."""
    for row in stream_jsonl(Path(run.need("data/train.jsonl"))):
        yield {**row, "facts": [], "from": "original"}
    for row in _rows(run, of, "rewrite"):
        yield {**row, "id": f"{row['id']}.ka", "from": "rewritten"}

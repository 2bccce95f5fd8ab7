"""A shard: a contiguous slice of the training rows, through one stage of the pipeline at a time, block by block."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from knowtuning.execute import NOTEBOOKS, read_parameters
from knowtuning.files import DataError, count_lines, sha256, shown, stream_jsonl, write_json, write_jsonl
from knowtuning.knowledge.difficulty import score_facts
from knowtuning.knowledge.extract import extract_facts
from knowtuning.knowledge.pipeline import Method, Scorer, augment, compare, find_difficult
from knowtuning.progress import Tick
from knowtuning.run import Run, peak_memory_mb

STAGES = ("extract", "score", "rewrite", "disturb")
OUTPUT = {"extract": "facts", "score": "difficulty", "rewrite": "rewritten", "disturb": "pairs"}
EARLIER = {"score": "extract", "rewrite": "score", "disturb": "extract"}
BLOCK = 2000  # rows in memory at once
BATCH_BLOCK = 50_000  # the same where they are asked by batches: the most that one may hold
Work = Callable[[list[dict], list[dict]], tuple[list[dict], dict[str, int]]]
_STATED = {
    "score": ("04_difficult_knowledge", ("alpha", "scope", "select", "condition_on_question")),
    "disturb": ("06_disturbance", ("beta", "rejected")),
}


@dataclass(frozen=True)
class Shard:
    """The `number`-th (from 1) of `of` slices: rows [(number - 1) * N // of, number * N // of) of N.

    >>> shard = Shard(3, 8)
    >>> str(shard), shard.name, shard.bounds(100)
    ('3/8', '3-of-8', (25, 37))
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise DataError(f"shard {self} does not exist: write I/N, with I from 1 to N, such as 3/8.")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """The name of its folders."""
        return f"{self.number}-of-{self.of}"

    def bounds(self, rows: int) -> tuple[int, int]:
        """Its first row and the first that is no longer its own, of so many rows."""
        return (self.number - 1) * rows // self.of, self.number * rows // self.of

    def output(self, run: Run, stage: str) -> Path:
        """The file of its rows of one stage; beside it its account (.json): counts, parameters, seconds, memory."""
        return run.path(f"shards/{self.name}/{OUTPUT[stage]}.jsonl")

    def teacher(self, run: Run) -> Path:
        """The folder of its own record of the teacher: one that all shared, each would have to read whole."""
        return run.teacher / "shards" / self.name

    def need(self, run: Run, stage: str) -> Path:
        """Its file of an earlier stage; when it is missing, `DataError` names the command that writes it."""
        path = self.output(run, stage)
        if not path.exists():
            command = f"knowtuning shard {stage} {self} --recipe {run.recipe.name} --seed {run.seed}"
            raise DataError(f"{shown(path)} is missing: run `{command}` first.")
        return path


def parse_shard(text: str) -> Shard:
    """A shard as the command line names it.

    >>> parse_shard("3/8")
    Shard(number=3, of=8)
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise DataError(f"shard {text!r}: write I/N, such as 3/8 for the third of eight.")
    return Shard(int(match[1]), int(match[2]))


def method(stage: str) -> dict[str, Any]:
    """The parameters of a stage as its notebook states them; `DataError` for those that no shard can serve.

    >>> method("disturb")
    {'beta': 0.5, 'rejected': 'concatenated'}
    """
    notebook, names = _STATED.get(stage, ("", ()))
    stated = read_parameters(NOTEBOOKS / f"{notebook}.ipynb") if notebook else {}
    if stated.get("scope") == "dataset":
        raise DataError(
            f"notebook {notebook} says scope='dataset', and a shard does not see the facts of the others: use "
            "scope='answer', or no shards."
        )
    return {name: stated[name] for name in names}


def run_stage(
    stage: str,
    shard: Shard,
    run: Run,
    model: str = "",
    block: int | None = None,
    scorer: Scorer | None = None,
    tick: Tick = lambda done, note="", **numbers: None,
    **teacher_options: Any,
) -> dict[str, Any]:
    """Do one stage of one shard and write its rows, then the account of them, which is returned.

    Args:
        stage: one of `STAGES`; "score" needs the adapter of notebook 02, and every one but "extract" the same shard's
            rows of an earlier stage (`EARLIER`).
        model: the teacher's, where it is not the recipe's.
        block: rows in memory at once (2,000; 50,000 with the Batch API).
        scorer: what scores facts in place of the SFT model.
        tick: is told the number of rows done; of the teacher also `cost` and `failed`.
        teacher_options: those of `open_teacher`, such as `batch` and `max_cost`.

    What is killed and begun again takes its replies from the shard's own record.
    """
    from knowtuning.teacher.calls import totals
    from knowtuning.teacher.server import open_teacher  # here: who only plans shards needs no client

    if stage not in STAGES:
        raise DataError(f"stage {stage!r} is unknown; use one of {', '.join(STAGES)}.")
    started, counts, parameters = time.perf_counter(), Counter(), method(stage)
    knobs = Method(**parameters, seed=run.seed)
    train = Path(run.need("data/train.jsonl"))
    earlier = shard.need(run, EARLIER[stage]) if stage in EARLIER else None
    start, stop = shard.bounds(count_lines(train))
    block = block or (BATCH_BLOCK if teacher_options.get("batch") else BLOCK)
    output = shard.output(run, stage)
    account = output.with_suffix(".json")
    for old in (account, *output.parent.glob(f".{output.name}.*.partial")):  # the account comes last: it means complete
        old.unlink(missing_ok=True)

    def made(work: Work, numbers: Callable[[], dict[str, Any]] = dict) -> Iterator[dict]:
        done = 0
        for rows, before in blocks(stream_jsonl(train, start, stop), earlier, block):
            new, counted = work(rows, before)
            counts.update(counted)
            yield from new
            tick(done := done + len(rows), **numbers())

    if stage == "score":
        told = {"scored_by": scorer.__name__ if scorer else scored_by(run, knobs.condition_on_question)}
        write_jsonl(output, made(partial(_score, scorer or load_scorer(run), knobs)))
    else:
        options = {"settings": run.recipe.base, "concurrency": run.recipe.concurrency} | teacher_options
        with open_teacher(model or run.recipe.teacher, shard.teacher(run), **options) as teacher:
            work = {
                "extract": lambda rows, before: extract_facts(teacher, rows),
                "rewrite": lambda rows, before: augment(teacher, rows, before),
                "disturb": lambda rows, before: compare(teacher, rows, before, knobs),
            }
            write_jsonl(
                output,
                made(work[stage], lambda: {"cost": teacher.cost(), "failed": totals(teacher.counts)["quarantined"]}),
            )
        told = {"model": teacher.model, "teacher": totals(teacher.counts)}
    told |= {"stage": stage, "shard": str(shard), "rows": stop - start, "parameters": parameters}
    seconds = round(time.perf_counter() - started, 1)
    told |= {"counts": dict(counts), "seconds": seconds, "peak_memory_mb": round(peak_memory_mb())}
    write_json(account, told)
    return told


def _score(scorer: Scorer, knobs: Method, rows: list[dict], facts: list[dict]) -> tuple[list[dict], dict[str, int]]:
    scored = find_difficult(scorer, rows, facts, knobs)
    return scored, {"facts": len(scored), "difficult": sum(row["difficult"] for row in scored)}


def load_scorer(run: Run) -> Scorer:
    """Perplexity under the SFT model, as notebook 04 computes it."""
    from knowtuning.training import models

    base, adapter = run.need("base"), run.need("adapters/sft")
    model = models.load_base(base, run.recipe.quantisation, run.recipe.dtype)
    model = models.load_adapter(model, adapter).eval()
    tokenizer = models.load_tokenizer(base, run.recipe.prompt)
    return partial(score_facts, model, tokenizer, max_tokens=run.recipe.machine.score_tokens)


def scored_by(run: Run, condition_on_question: bool) -> dict[str, Any]:
    """What a score depends on besides the fact: the adapter (which was trained on the base), and how it is used."""
    how = {name: getattr(run.recipe, name) for name in ("quantisation", "dtype", "prompt")}
    return {"adapter": sha256(Path(run.need("adapters/sft"))), **how, "condition_on_question": condition_on_question}


def blocks(rows: Iterator[dict], earlier: Path | None, size: int) -> Iterator[tuple[list[dict], list[dict]]]:
    """Rows in blocks of `size`, each with the rows of the same ids in a file of an earlier stage.

    Both come in the order of the training rows, so that one block is in memory and no more. A row of the file that
    belongs to none is one of other data: `DataError`.
    """
    results = stream_jsonl(earlier) if earlier else iter(())
    waiting = next(results, None)
    while block := list(islice(rows, size)):
        ids, of_block = {row["id"] for row in block}, []
        while waiting is not None and waiting["id"] in ids:
            of_block.append(waiting)
            waiting = next(results, None)
        yield block, of_block
    if waiting is not None:
        raise DataError(
            f"{shown(earlier)}: id {waiting['id']!r} is not where it stands in data/train.jsonl; the file is of other "
            "data: run the stage that wrote it again."
        )

"""One stage over one shard: the notebooks' own functions block by block, in memory that does not grow with the rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from knowtuning.files import DataError, sha256, stream_jsonl, write_json, write_jsonl
from knowtuning.knowledge.disturb import disturb, word_answers
from knowtuning.knowledge.extract import extract_facts
from knowtuning.knowledge.rewrite import rewrite
from knowtuning.progress import Tick
from knowtuning.run import Run, peak_memory_mb
from knowtuning.shards.method import method
from knowtuning.shards.shard import EARLIER, STAGES, Shard, blocks, count_rows
from knowtuning.teacher.calls import totals
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.server import open_teacher

BLOCK = 2000  # rows in memory at once
BATCH_BLOCK = 50_000  # the same where they are asked by batches: the most that one may hold

Made = tuple[list[dict], dict[str, int]]
Work = Callable[[list[dict], list[dict]], Made]
Scorer = Callable[[list[dict], dict[str, str]], list[dict]]


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
        scorer: what scores facts in place of the SFT model, from facts and questions as `score_facts` does.
        tick: is told the number of rows done; of the teacher also `cost` and `failed`.
        teacher_options: those of `open_teacher`, such as `batch` and `max_cost`.

    What is killed and begun again takes its replies from the shard's own cache. The method's parameters are those of
    the notebooks, so that they are written once.
    """
    if stage not in STAGES:
        raise DataError(f"stage {stage!r} is unknown; use one of {', '.join(STAGES)}.")
    started, counts = time.perf_counter(), Counter()
    train = Path(run.need("data/train.jsonl"))
    earlier = shard.need(run, EARLIER[stage]) if stage in EARLIER else None
    start, stop = shard.bounds(count_rows(run))
    block = block or (BATCH_BLOCK if teacher_options.get("batch") else BLOCK)
    output, account = shard.output(run, stage), shard.account(run, stage)
    for old in (account, *output.parent.glob(f".{output.name}.*.partial")):  # the account comes last: it means complete
        old.unlink(missing_ok=True)

    def rows(work: Work, numbers: Callable[[], dict[str, Any]] = dict) -> Iterator[dict]:
        done = 0
        for mine, before in blocks(stream_jsonl(train, start, stop), earlier, block):
            made, counted = work(mine, before)
            counts.update(counted)
            yield from made
            tick(done := done + len(mine), **numbers())

    parameters = method(stage)
    if stage == "score":
        told = {"scored_by": scorer.__name__ if scorer else scored_by(run, parameters["condition_on_question"])}
        write_jsonl(output, rows(partial(_score, scorer or load_scorer(run), parameters, run.seed)))
    else:
        known = {"settings": run.recipe.base, "concurrency": run.recipe.concurrency}
        with open_teacher(model or run.recipe.teacher, shard.teacher(run), **known | teacher_options) as teacher:
            asked = partial(_ASKED[stage], teacher, parameters, run.seed)
            write_jsonl(output, rows(asked, lambda: _spending(teacher)))
        told = {"model": teacher.model, "teacher": totals(teacher.counts)}
    told |= {"stage": stage, "shard": str(shard), "rows": stop - start, "parameters": parameters}
    seconds = round(time.perf_counter() - started, 1)
    told |= {"counts": dict(counts), "seconds": seconds, "peak_memory_mb": round(peak_memory_mb())}
    write_json(account, told)
    return told


def _spending(teacher: Teacher) -> dict[str, Any]:
    return {"cost": teacher.cost(), "failed": totals(teacher.counts)["quarantined"]}


def load_scorer(run: Run) -> Scorer:
    """Perplexity under the SFT model, as notebook 04 computes it."""
    from knowtuning.knowledge.difficulty import score_facts
    from knowtuning.training import models

    base, adapter = run.need("base"), run.need("adapters/sft")
    tokenizer = models.load_tokenizer(base, run.recipe.prompt)
    model = models.load_base(base, run.recipe.quantisation, run.recipe.dtype)
    model = models.load_adapter(model, adapter).eval()
    return lambda facts, questions: score_facts(model, tokenizer, facts, questions, run.recipe.machine.score_tokens)


def scored_by(run: Run, condition_on_question: bool) -> dict[str, Any]:
    """What a score depends on besides the fact: the adapter (which was trained on the base), and how it is used."""
    how = {name: getattr(run.recipe, name) for name in ("quantisation", "dtype", "prompt")}
    return {"adapter": sha256(Path(run.need("adapters/sft"))), **how, "condition_on_question": condition_on_question}


def _extract(teacher: Teacher, parameters: dict, seed: int, rows: list[dict], before: list[dict]) -> Made:
    return extract_facts(teacher, rows)


def _score(scorer: Scorer, parameters: dict, seed: int, rows: list[dict], facts: list[dict]) -> Made:
    from knowtuning.knowledge.difficulty import select_difficult

    asked = parameters["condition_on_question"]
    questions = {row["id"]: row["question"] if asked else "" for row in rows}
    chosen = {name: parameters[name] for name in ("alpha", "scope", "select")}
    scored = select_difficult(scorer(facts, questions), **chosen, seed=seed)
    return scored, {"facts": len(scored), "difficult": sum(row["difficult"] for row in scored)}


def _rewrite(teacher: Teacher, parameters: dict, seed: int, rows: list[dict], scored: list[dict]) -> Made:
    difficult: dict[str, list[str]] = {}
    for row in scored:
        if row["difficult"]:
            difficult.setdefault(row["id"], []).append(row["fact"])
    return rewrite(teacher, rows, difficult)


def _disturb(teacher: Teacher, parameters: dict, seed: int, rows: list[dict], facts: list[dict]) -> Made:
    known = {row["id"]: row["facts"] for row in facts}
    pairs, left_out = disturb(teacher, rows, known, parameters["beta"], seed)
    worded, counts = word_answers(teacher, pairs, parameters["rejected"])
    return worded, left_out | counts


_ASKED = {"extract": _extract, "rewrite": _rewrite, "disturb": _disturb}

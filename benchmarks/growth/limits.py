"""What one row costs in each place that grows with the rows: the numbers behind docs/scale.md.

    python benchmarks/growth/limits.py --data dolly_train.json [--quick]

Rows of a real data set go through the shards' stages with the teacher of rules (its tokens are a quarter of the
characters; the perplexity is a STUB, see worker.py). Then the parts that hold all rows, or look at all of them, are
measured one by one: seconds of CPU, memory, bytes on disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from run import invented
from worker import stub_scores

from knowtuning.data.duplicates import near_duplicates
from knowtuning.data.sources import load
from knowtuning.files import ROOT, count_lines, read_jsonl, stream_jsonl, write_jsonl
from knowtuning.run import Run
from knowtuning.shards.gather import gather, write_artefacts
from knowtuning.shards.shard import STAGES, Shard, run_stage
from knowtuning.teacher.endpoint import Features
from knowtuning.teacher.prompts import EXTRACT, REVISE, Task
from knowtuning.teacher.record import Record, Reply, record_path

sys.path.insert(0, str(ROOT / "benchmarks" / "teacher"))
from running import publish  # noqa: E402 (lies with the benchmarks of the teacher)


def per_row(rows: list[dict]) -> dict[str, Any]:
    """Calls, tokens and bytes of one row, from `rows` that go through all stages."""
    run, shard = Run("limits", "dolly-offline", 0), Shard(1, 1)
    write_jsonl(run.path("data/train.jsonl"), rows)
    accounts = {stage: run_stage(stage, shard, run, scorer=stub_scores) for stage in STAGES}
    gather(run, 1)
    write_artefacts(run, 1)
    asked = [account["teacher"] for account in accounts.values() if "teacher" in account]
    files = [
        *run.root.glob("*.json*"),
        *shard.output(run, "extract").parent.glob("*.jsonl"),
        run.path("data/train.jsonl"),
    ]
    size = {str(path.relative_to(run.root)): path.stat().st_size / len(rows) for path in files}
    size["teacher/record.sqlite"] = record_path(run.teacher).stat().st_size / len(rows)
    counted = ("calls", "prompt_tokens", "completion_tokens")
    return {
        **{name: sum(each[name] for each in asked) / len(rows) for name in counted},
        "facts": accounts["extract"]["counts"]["facts"] / len(rows),
        "pairs": sum(n for name, n in accounts["disturb"]["counts"].items() if name.startswith("pairs: ")) / len(rows),
        "bytes": size,
        "memory": {
            name: held(run.path(f"shards/1-of-1/{name}.jsonl")) / len(rows) for name in ("facts", "difficulty", "pairs")
        }
        | {"train": held(run.path("data/train.jsonl")) / len(rows)},
    }


def held(path: Path) -> int:
    """Bytes of memory that the rows of a file take as Python objects."""
    return memory(lambda: read_jsonl(path))[0]


def memory(work: Callable[[], Any]) -> tuple[int, int]:
    """Bytes of memory that the result of some work takes, and the most that the work took."""
    tracemalloc.start()
    kept = work()
    sizes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return sizes


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds of a piece of work in this process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def opening(folder: Path, records: int) -> dict[str, float]:
    """What one reply on record costs when a teacher is opened, which adds up the account: CPU seconds."""
    with Record(folder) as record:
        keys = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(records))
        record.add(Reply(key, "extract", "m", "x" * 900, None, 4096, 900, 200) for key in keys)

    def account() -> None:
        with Record(folder) as record:
            record.spending()

    return {"cpu_seconds": cpu(account) / records}


def request_bytes(task: Task, rows: list[dict]) -> float:
    """Mean length of a request's line in the file of a batch; an answer's sentences stand for its facts."""
    size = 0
    for row in rows:
        given = {"answer": row["answer"]} if task is EXTRACT else {"facts": row["answer"].split(". ")}
        body = Features().body(task, {"question": row["question"], **given}, "gpt-6-luna", 4096, {})
        line = {"custom_id": "0" * 64, "method": "POST", "url": "/v1/chat/completions", "body": body}
        size += len(json.dumps(line, ensure_ascii=False).encode()) + 1
    return size / len(rows)


def planning(shards: int) -> dict[str, float]:
    """Seconds of CPU and memory that Snakemake needs to plan a walk in so many shards."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n", "--quiet", "all"]
    config = ["--nolock", "--config", "recipe=smoke", f"shards={shards}"]
    with psutil.Popen([*command, *config], cwd=ROOT, stdout=subprocess.DEVNULL) as child:
        found = {"cpu_seconds": 0.0, "mb": 0.0}
        while child.poll() is None:
            with suppress(psutil.NoSuchProcess), child.oneshot():
                used = child.cpu_times()
                found["cpu_seconds"] = used.user + used.system
                found["mb"] = max(found["mb"], child.memory_info().rss / 2**20)
            time.sleep(0.05)
    if child.returncode:
        raise SystemExit("FAILED: snakemake -n")
    return found


def main() -> None:
    """Measure each part and write a result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a file of real questions and answers, such as Dolly's 4,000")
    parser.add_argument("--quick", action="store_true", help="small numbers, and nothing is published")
    chosen = parser.parse_args()
    rows, small = load(chosen.data), chosen.quick
    with tempfile.TemporaryDirectory() as name:
        os.environ["KNOWTUNING_RUNS"] = name
        measured: dict[str, Any] = {"per_row": per_row(rows[: 100 if small else 1000])}
        sizes = [len(rows) // 8, len(rows) // 4] if small else [len(rows) // 4, len(rows) // 2, len(rows)]
        measured["near_duplicates"] = {str(n): cpu(lambda n=n: near_duplicates(rows[:n])) for n in sizes}
        measured["near_duplicates_bytes_per_row"] = memory(lambda: near_duplicates(rows[: sizes[0]]))[1] / sizes[0]
        measured["request_bytes"] = {task.name: request_bytes(task, rows[: sizes[0]]) for task in (EXTRACT, REVISE)}
        measured["opening_per_reply"] = opening(Path(name), 5_000 if small else 100_000)
        many = write_jsonl(Path(name) / "many.jsonl", invented(20_000 if small else 500_000))
        megabytes = many.stat().st_size / 1e6
        measured["counting_mb_per_second"] = megabytes / cpu(lambda: count_lines(many))
        last = count_lines(many) - 1
        measured["passing_over_mb_per_second"] = megabytes / cpu(lambda: list(islice(stream_jsonl(many, last), 1)))
    measured["planning"] = {str(n): planning(n) for n in ((10, 50) if small else (10, 100, 1000, 2000))}
    print(json.dumps(measured, indent=1))
    if not small:
        publish("limits", measured)


if __name__ == "__main__":
    main()

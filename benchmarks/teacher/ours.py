"""Our client over a file of rows, in blocks as shards take them; prints one JSON line of what it took.

python benchmarks/teacher/ours.py BASE_URL ROWS.jsonl FOLDER [--concurrency 64] [--timeout 60]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from knowtuning.teacher.client import Teacher
from knowtuning.teacher.prompts import EXTRACT


def read_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Rows `(id, inputs)` of a JSONL file of questions and answers, one at a time."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            yield f"row-{number:06d}", {"question": row["question"], "answer": row["answer"]}


def cpu_seconds() -> float:
    """CPU time of this process so far, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Extract all rows into FOLDER/facts.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base_url")
    parser.add_argument("rows", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--block", type=int, default=2000, help="rows in memory at once (default: 2000, as in a shard)")
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--max-retries", type=int, default=6)
    parser.add_argument("--backoff", type=float, default=0.5)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    options = {"concurrency": chosen.concurrency, "timeout": chosen.timeout}
    options |= {"max_retries": chosen.max_retries, "backoff": chosen.backoff}
    with Teacher("sentences", chosen.folder, base_url=chosen.base_url, api_key="none", **options) as teacher:
        served = failed = 0
        wall, cpu = time.perf_counter(), cpu_seconds()
        with open(chosen.folder / "facts.jsonl.partial", "w", encoding="utf-8") as out:
            rows = read_rows(chosen.rows)
            while block := list(islice(rows, chosen.block)):
                for (row_id, _), reply in zip(block, teacher.map(EXTRACT, block), strict=True):
                    if reply is None:
                        failed += 1
                    else:
                        served += 1
                        out.write(json.dumps({"id": row_id, "facts": reply.facts}, ensure_ascii=False) + "\n")
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        counts = teacher.counts["extract"]
    (chosen.folder / "facts.jsonl.partial").rename(chosen.folder / "facts.jsonl")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured = {"rows": served, "failed": failed, "seconds": wall, "cpu_seconds": cpu, "peak_mb": peak}
    print(json.dumps(measured | {"calls": counts["calls"], "retries": counts["retries"]}))


if __name__ == "__main__":
    main()

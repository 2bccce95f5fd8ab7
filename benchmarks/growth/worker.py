"""One shard through all four stages, as `knowtuning shard` does them, with a STUB in place of the SFT model.

    KNOWTUNING_RUNS=… OPENAI_BASE_URL=… python benchmarks/growth/worker.py STAGE I/N

prints a JSON line after every block: rows so far, seconds, CPU seconds and peak memory of this process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import resource
import time

from knowtuning.run import Run, peak_memory_mb
from knowtuning.shards.shard import STAGES, parse_shard, run_stage


def stub_scores(facts: list[dict], questions: dict[str, str]) -> list[dict]:
    """STUB: a hash of the fact stands for its perplexity, since what is measured here is not the model."""
    scored = []
    for row in facts:
        for index, fact in enumerate(row["facts"]):
            nll, tokens = hashlib.sha256(fact.encode()).digest()[0] / 8, len(fact.split())
            numbers = {"nll": nll, "tokens": tokens, "perplexity": math.exp(nll / tokens)}
            scored.append({"id": row["id"], "index": index, "fact": fact, **numbers})
    return scored


def main() -> None:
    """Do one stage and tell how it goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("shard", type=parse_shard)
    parser.add_argument("--block", type=int, default=10_000)
    parser.add_argument("--one-by-one", action="store_true", help="ask call by call, and not by the Batch API")
    chosen = parser.parse_args()
    started = time.perf_counter()

    def tell(done: int, note: str = "", **numbers: float) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        told = {"rows": done, "seconds": time.perf_counter() - started, "cpu_seconds": usage.ru_utime + usage.ru_stime}
        print(json.dumps(told | {"peak_mb": peak_memory_mb()}), flush=True)

    run = Run("growth", "smoke", 0)
    asking = {} if chosen.stage == "score" or chosen.one_by_one else {"batch": True, "poll": 0.05}
    run_stage(chosen.stage, chosen.shard, run, "sentences", chosen.block, stub_scores, tell, **asking)


if __name__ == "__main__":
    main()

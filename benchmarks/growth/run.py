"""Does time grow in step with the rows, and memory not at all? A million rows through the stages as shards do them.

    python benchmarks/growth/run.py [--rows 1000000] [--quick]

Invented questions and answers of three sentences go through extract, score, rewrite and disturb in two shards at once,
each stage of a shard in a process of its own, and are then gathered into the files that notebooks 03 to 06 write. The
code is that of `knowtuning shard` and `knowtuning gather`; the teacher is asked over HTTP by the Batch API, and its
replies are checked and kept like any others. Two things stand in for what is not measured: the server's model makes its
replies out of the inputs, and the perplexity of a fact is a hash of it (STUB: `stub_scores` in worker.py).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
from figure import scale_growth  # beside this file

from knowtuning.figures import save
from knowtuning.files import ROOT, read_json, write_jsonl
from knowtuning.run import peak_memory_mb
from knowtuning.shards.shard import STAGES

sys.path.insert(0, str(ROOT / "benchmarks" / "teacher"))
from running import publish, serving  # noqa: E402 (lies with the benchmarks of the teacher)

SHARDS = 2  # at work at once, on two cores
POINTS = 4  # at which the whole is measured
CALLS = 4  # of the teacher per row: extract, rewrite, revise, rephrase
COMPARED = 8000  # rows asked one by one and in batches
_WORDS = ("copper", "basin", "canal", "engine", "law", "river", "season", "signal", "treaty", "valley", "mill")


def invented(count: int) -> Iterator[dict]:
    """Questions and answers of three facts each, no two alike."""
    for number in range(count):
        a, b, c, d, e = (_WORDS[(number * 7 + place * place + number // 11) % len(_WORDS)] for place in range(5))
        answer = (
            f"The {a} of place {number} was built near the {b} {c}. It serves {number % 97} {d}s in every season. "
            f"The {e} beside it is {number % 13} years old."
        )
        question = f"What is known of the {a} of place {number}?"
        yield {"id": f"row-{number:08d}", "question": question, "answer": answer, "source": "invented"}


class Bench:
    """A folder of runs, and processes that work in it beside the benchmarks' server."""

    def __init__(self, folder: Path, rows: int, block: int) -> None:
        self.folder, self.block = folder, block
        self.run = folder / "smoke" / "seed-0"
        write_jsonl(self.run / "data" / "train.jsonl", invented(rows))

    @contextmanager
    def server(self) -> Iterator[psutil.Process]:
        """The server for one stage; the files of its batches go with it."""
        with serving("--batch-seconds", "0") as self.base_url:
            [server] = [p for p in psutil.Process().children() if any("endpoints" in word for word in p.cmdline())]
            yield server

    def stage(self, stage: str, shards: int, *options: str) -> list[dict]:
        """One stage over all shards at once: what was measured after each of their blocks."""
        with self.server() as server, ThreadPoolExecutor(shards) as pool:
            samples, latest, started = [_sample(0.0, [], server)], {}, time.perf_counter()

            def work(number: int) -> None:
                for told in self._worker(stage, f"{number}/{shards}", *options):
                    latest[number] = told
                    samples.append(_sample(time.perf_counter() - started, list(latest.values()), server))

            list(pool.map(work, range(1, shards + 1)))
        return samples

    def gather(self) -> dict:
        """Merge the caches and write the artefacts, in a process of its own."""
        command = [sys.executable, "-m", "knowtuning", "gather", "--recipe", "smoke", "--shards", str(SHARDS)]
        subprocess.run([*command, "--artefacts"], env=self._environment(), check=True)
        manifest = read_json(self.run / "manifests" / "gather.json")
        return {name: manifest[name] for name in ("seconds", "peak_memory_mb")}

    def bytes(self) -> dict[str, int]:
        """What lies on disk: rows and artefacts, the shards' rows, and the teacher's records (twice once gathered)."""
        teacher, shards = self.folder / "smoke" / "teacher", self.run / "shards"
        size = {
            part: sum(p.stat().st_size for p in part.rglob("*") if p.is_file()) for part in (teacher, shards, self.run)
        }
        return {"records": size[teacher], "shards": size[shards], "artefacts": size[self.run] - size[shards]}

    def _worker(self, *arguments: str) -> Iterator[dict]:
        command = [sys.executable, str(ROOT / "benchmarks" / "growth" / "worker.py"), *arguments]
        command += ["--block", str(self.block)]
        worker = subprocess.Popen(command, env=self._environment(), stdout=subprocess.PIPE, text=True)
        yield from map(json.loads, worker.stdout)
        if worker.wait():
            raise SystemExit(f"FAILED: {' '.join(command)}")

    def _environment(self) -> dict[str, str]:
        own = {"KNOWTUNING_RUNS": str(self.folder), "OPENAI_BASE_URL": self.base_url, "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own}


def _sample(seconds: float, workers: list[dict], server: psutil.Process) -> dict:
    """Rows and seconds so far, CPU seconds on both sides, peak memory of the largest worker and of the server."""
    cpu = server.cpu_times()
    return {
        "rows": sum(worker["rows"] for worker in workers),
        "seconds": seconds,
        "worker_cpu_seconds": sum(worker["cpu_seconds"] for worker in workers),
        "server_cpu_seconds": cpu.user + cpu.system,
        "worker_peak_mb": max((worker["peak_mb"] for worker in workers), default=0.0),
        "server_mb": peak_memory_mb(server.pid),
    }


def points(samples: dict[str, list[dict]], rows: int) -> list[dict]:
    """All stages together at each quarter of the rows: seconds are added up, of memory the largest counts.

    The worker of the stage "score" loads PyTorch, the others do not: it is counted apart.
    """
    found = []
    for target in (rows * number // POINTS for number in range(1, POINTS + 1)):
        reached = {stage: next(each for each in of if each["rows"] >= target) for stage, of in samples.items()}
        summed = ("seconds", "worker_cpu_seconds", "server_cpu_seconds")
        asking = [each for stage, each in reached.items() if stage != "score"]
        found.append(
            {"rows": target}
            | {name: sum(each[name] for each in reached.values()) for name in summed}
            | {"worker_mb": max(each["worker_peak_mb"] for each in asking)}
            | {"score_mb": reached["score"]["worker_peak_mb"], "server_mb": max(each["server_mb"] for each in asking)}
        )
    return found


def per_call(bench: Bench) -> dict[str, dict[str, float]]:
    """CPU milliseconds of a call on both sides, asked one by one and in batches."""
    found = {}
    for path in ("one by one", "in batches"):
        shutil.rmtree(bench.folder / "smoke" / "teacher", ignore_errors=True)  # the other's replies
        start, first, *_, last = bench.stage("extract", 1, *(["--one-by-one"] if path == "one by one" else []))
        # the worker's first block pays for its start as well
        worker = (last["worker_cpu_seconds"] - first["worker_cpu_seconds"]) / (last["rows"] - first["rows"])
        server = (last["server_cpu_seconds"] - start["server_cpu_seconds"]) / last["rows"]
        found[path] = {"client": 1000 * worker, "server": 1000 * server}
        print(f"a call {path}: {1000 * worker:.2f} ms CPU of the client, {1000 * server:.2f} of the server")
    return found


def measure(folder: Path, rows: int, block: int) -> dict:
    """All stages over all rows, then the gathering."""
    bench, samples = Bench(folder, rows, block), {}
    for stage in STAGES:
        samples[stage] = bench.stage(stage, SHARDS)
        last = samples[stage][-1]
        print(f"{stage}: {last['rows']:,} rows in {last['seconds']:.0f} s, {last['worker_cpu_seconds']:.0f} s CPU")
    found = points(samples, rows)
    for point in found:
        print(f"{point['rows']:>9,} rows: {point['seconds']:6.1f} s, ", end="")
        print(", ".join(f"{name.removesuffix('_mb')} {point[name]:.0f} MB" for name in point if name.endswith("_mb")))
    gathered = bench.gather()
    print(f"gathered in {gathered['seconds']:.0f} s, {gathered['peak_memory_mb']:.0f} MB")
    return {
        "stub": "perplexity is a hash of the fact; the teacher's replies are made out of its inputs",
        "rows": rows,
        "calls": CALLS * rows,
        "shards": SHARDS,
        "block": block,
        "rows_per_second": rows / found[-1]["seconds"],
        "seconds_of_last_quarter_to_second": _quarters(found),
        "points": found,
        "stages": {stage: of[-1] for stage, of in samples.items()},
        "gathered": gathered,
        "bytes": bench.bytes(),
    }


def _quarters(found: list[dict]) -> float:
    """Seconds of the last quarter of the rows against those of the second: 1 where time is linear."""
    return (found[-1]["seconds"] - found[-2]["seconds"]) / (found[1]["seconds"] - found[0]["seconds"])


def main() -> None:
    """Compare the two ways of asking, measure the growth, draw it, and write a result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--block", type=int, default=10_000, help="rows that a worker holds at once")
    parser.add_argument("--quick", action="store_true", help="20,000 rows, and nothing is published")
    parser.add_argument(
        "--folder", type=Path, help="where to work: 15 GB for a million rows (default: a temporary one)"
    )
    chosen = parser.parse_args()
    rows, block = (20_000, 1000) if chosen.quick else (chosen.rows, chosen.block)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        compared = per_call(Bench(Path(name) / "calls", COMPARED, COMPARED // 4))
        measured = measure(Path(name) / "growth", rows, block) | {"cpu_ms_per_call": compared}
    if not chosen.quick:
        save(scale_growth(measured["points"]), ROOT / "figures", "scale_growth")
        publish("growth", measured)


if __name__ == "__main__":
    main()

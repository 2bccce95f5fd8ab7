"""How fast are the teacher's calls, at what price in CPU and memory, beside a well-kept peer? `make teacher-bench`

The same rows, the same server, the same run: ours and Bespoke Curator's in turn, each in a process of its own. The
server answers after 100 ms, so 64 calls at once can serve 640 rows a second and no more: that is the bound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from ours import read_rows
from running import HERE, client, publish, serving, write_rows

from knowtuning.files import ROOT, DataError
from knowtuning.teacher.prompts import EXTRACT, messages

PEER = ROOT / ".venv-peer" / "bin" / "python"
DELAY, CONCURRENCY = 0.1, 64
BOUND = CONCURRENCY / DELAY


def measure_ours(base_url: str, rows: Path, folder: Path) -> dict:
    """One run of our client: rows/s, CPU milliseconds per call, peak memory in MB."""
    done = subprocess.run(client(base_url, rows, folder), capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    if told["failed"]:
        raise DataError(f"{told['failed']} rows of the benchmark failed: see {folder / 'quarantine.jsonl'}.")
    return {
        "rows_per_second": told["rows"] / told["seconds"],
        "cpu_ms_per_call": 1000 * told["cpu_seconds"] / told["calls"],
        "peak_mb": told["peak_mb"],
    }


def measure_peer(base_url: str, prompts: Path, folder: Path) -> dict:
    """One run of the peer over the same chats, its seconds those of the requests alone."""
    command = [str(PEER), str(HERE / "peer.py"), "--base-url", base_url, "--prompts", str(prompts)]
    command += ["--output", str(folder), "--model", "sentences", "--concurrency", str(CONCURRENCY)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"the peer failed: {done.stderr.strip().splitlines()[-1]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "rows_per_second": told["rows_ok"] / told["request_seconds"],
        "rows_per_second_in_all": told["rows_ok"] / told["call_seconds"],
        "cpu_ms_per_call": 1000 * told["cpu_seconds"] / told["rows_ok"],
        "peak_mb": told["peak_memory_mb"],
        "peer": told["peer"],
    }


def spread(runs: list[dict]) -> dict:
    """Median, smallest and largest of each number over the runs."""
    numbers = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    values = {name: [run[name] for run in runs] for name in numbers}
    return {name: {"median": statistics.median(v), "min": min(v), "max": max(v)} for name, v in values.items()}


def main() -> None:
    """Throughput beside the peer, then memory over the number of rows, and a result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--most", type=int, default=100_000, help="rows of the large run that memory is compared with")
    parser.add_argument("--data", default="", help="take the rows from this data file (default: invented ones)")
    chosen = parser.parse_args()
    if not PEER.exists():
        raise SystemExit("the peer is not installed: run `make teacher-bench`, which installs it into .venv-peer")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, prompts = write_rows(folder / "rows.jsonl", chosen.rows, chosen.data), folder / "prompts.jsonl"
        chats = ({"messages": messages(EXTRACT, inputs)} for _, inputs in read_rows(rows))
        prompts.write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
        ours, peers = [], []
        for number in range(chosen.runs):
            with serving("--delay", str(DELAY)) as base_url:
                ours.append(measure_ours(base_url, rows, folder / f"ours-{number}"))
                peers.append(measure_peer(base_url, prompts, folder / f"peer-{number}"))
            speeds = [runs[-1]["rows_per_second"] for runs in (ours, peers)]
            print(f"run {number + 1}: ours {speeds[0]:.0f}, peer {speeds[1]:.0f} rows/s")
        memory = {}
        for count in (chosen.rows, chosen.most):
            many = write_rows(folder / f"rows-{count}.jsonl", count, chosen.data)
            with serving() as base_url:
                memory[count] = measure_ours(base_url, many, folder / f"many-{count}")
            print(f"{count:,} rows without delay: peak {memory[count]['peak_mb']:.0f} MB")
    mine, theirs = spread(ours), spread(peers)
    share = mine["rows_per_second"]["median"] / BOUND
    ratio = mine["rows_per_second"]["median"] / theirs["rows_per_second"]["median"]
    saved = theirs["cpu_ms_per_call"]["median"] / mine["cpu_ms_per_call"]["median"]
    growth = memory[chosen.most]["peak_mb"] / memory[chosen.rows]["peak_mb"]
    print(f"{share:.1%} of the bound of {BOUND:.0f} rows/s; {ratio:.2f} times the peer's rows/s")
    print(f"{mine['cpu_ms_per_call']['median']:.2f} ms CPU a call, the peer {saved:.1f} times as much")
    print(f"memory for {chosen.most:,} rows: {growth:.2f} times that for {chosen.rows:,}")
    publish(
        "teacher",
        {
            "rows": chosen.rows,
            "delay_seconds": DELAY,
            "concurrency": CONCURRENCY,
            "bound_rows_per_second": BOUND,
            "share_of_bound": share,
            "peer": peers[0]["peer"],
            "ratio_to_peer": ratio,
            "cpu_ratio_peer_to_ours": saved,
            "ours": mine,
            "theirs": theirs,
            "memory": {str(count): measured for count, measured in memory.items()},
            "memory_growth": growth,
        },
    )


if __name__ == "__main__":
    main()

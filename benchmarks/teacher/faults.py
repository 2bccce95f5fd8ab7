"""Is anything lost, counted twice or paid twice when the endpoint fails, or when the run is killed? `make faults`

1. Calls to an endpoint where 30 % of the requests meet a fault: every row must end in exactly one place.
2. The same run killed (SIGKILL) at random moments: no recorded call may be repeated, the final files must be those of
   an undisturbed run, byte by byte.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from ours import read_rows
from running import ENDPOINTS, client, publish, serving, write_rows

from knowtuning.files import read_jsonl
from knowtuning.teacher.prompts import EXTRACT
from knowtuning.teacher.record import cache_key, record_path

sys.path.insert(0, str(ENDPOINTS.parent))
from endpoints.faults import KINDS, call_key  # noqa: E402 (lies with the tests)

PATIENT = ("--timeout", "1.0", "--max-retries", "8", "--backoff", "0.05")
WITHOUT_A_REPLY = ("storm", "error500", "reset", "html", "echo_key")  # kinds after which nothing is paid
# kinds whose reply says what it cost
WITH_USAGE = ("truncated", "wrong_schema", "refusal", "empty_choices", "duplicate_field", "reordered")
SEED = 7


def check(truth: bool, sentence: str) -> None:
    """Stop where something that was promised is not so."""
    if not truth:
        raise SystemExit(f"FAILED: {sentence}")
    print(f"  ok  {sentence}")


def faulty_endpoint(folder: Path, calls: int, share: float) -> dict:
    """Part 1; returns what was counted on both sides of the wire."""
    rows, log, out = write_rows(folder / "rows.jsonl", calls, poison=500), folder / "log.jsonl", folder / "out"
    options = ("--faults", str(share), "--fault-seed", str(SEED), "--stall", "3", "--log", str(log))
    with serving(*options) as base_url:
        done = subprocess.run(client(base_url, rows, out, *PATIENT), capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    served = [row["id"] for row in read_jsonl(out / "facts.jsonl")]
    failed = read_jsonl(out / "quarantine.jsonl")
    records, requests = recorded(out), Counter(row["outcome"] for row in read_jsonl(log))
    everything = [row_id for row_id, _ in read_rows(rows)]
    print(f"{len(everything):,} rows, {sum(requests.values()):,} requests, {share:.0%} faults")
    check(sorted(served + [row["id"] for row in failed]) == everything, "every row is served or in quarantine, once")
    check(served == sorted(served), "the rows are in their order")
    check(all(row["reason"] for row in failed), f"each of the {len(failed)} rows in quarantine has its reason")
    raw = [row for row in failed if row["raw"]]
    check(len(raw) >= len(failed) - sum("attempts" in row["reason"] for row in failed), "and what the teacher sent")
    usable = [key for key, reason in records if reason is None]
    check(len(usable) == len(set(usable)) == len(served), "every served row is on record once")
    replied = sum(requests[kind] for kind in requests if kind in ("reply", "poison", *WITH_USAGE))
    check(
        len(records) <= replied + requests["cut_body"],
        f"{len(records):,} replies on record, {replied:,} sent with usage",
    )
    check(set(KINDS) <= set(requests), "every kind of fault was met")
    check(not any(b"Bearer" in path.read_bytes() for path in out.iterdir()), "no header of a request is in any file")
    share_failed = len(failed) / len(everything)
    print(f"  {len(failed)} of {len(everything):,} rows failed ({share_failed:.2%})")
    return {
        "rows": len(everything),
        "requests": dict(requests),
        "failed_rows": len(failed),
        "failed_share": share_failed,
        "poisoned_rows": len(everything) // 500,
        "seconds": round(measured["seconds"], 1),
    }


def killed_run(folder: Path, rows_count: int, kills: int) -> dict:
    """Part 2; returns how often it was killed and what was asked twice."""
    rows, log = write_rows(folder / "rows.jsonl", rows_count, poison=100), folder / "log.jsonl"
    options = ("--delay", "0.05", "--faults", "0.2", "--fault-kinds", ",".join(WITHOUT_A_REPLY))
    names = {}
    for _, inputs in read_rows(rows):
        names[cache_key(EXTRACT, inputs, "sentences", {})] = call_key("extract", inputs)
    chance, concurrency = random.Random(SEED), 16
    repeated, counted = 0, 0
    with serving(*options, "--log", str(log)) as base_url:
        command = client(base_url, rows, folder / "out", *PATIENT, "--concurrency", str(concurrency))
        while counted < kills:
            before = [key for key, reason in recorded(folder / "out") if reason is None]
            asked = len(_lines(log))
            size = log.stat().st_size if log.exists() else 0
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while process.poll() is None and (not log.exists() or log.stat().st_size == size):
                time.sleep(0.01)  # until it asks: a kill before is no trial
            time.sleep(chance.uniform(0.0, 0.7))
            if process.poll() is not None:
                raise SystemExit("FAILED: the run ended before it could be killed so often: give it more rows")
            process.kill()
            process.wait()
            counted += 1
            requests = {json.loads(line)["key"] for line in _lines(log)[asked:]}
            repeated += len(requests & {names[key] for key in before})
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with serving(*options) as base_url:
        calm = client(base_url, rows, folder / "calm", *PATIENT, "--concurrency", str(concurrency))
        subprocess.run(calm, check=True, stdout=subprocess.DEVNULL)
    print(f"{rows_count:,} rows, killed {counted} times")
    check(repeated == 0, "no call that was on record was asked again")
    replies = Counter(row["key"] for row in read_jsonl(log) if row["outcome"] == "reply")
    again = sum(times - 1 for times in replies.values())
    check(again <= counted * concurrency, f"{again} replies under way at a kill were lost and asked for again")
    same = (folder / "out" / "facts.jsonl").read_bytes() == (folder / "calm" / "facts.jsonl").read_bytes()
    check(same, "facts.jsonl is that of the undisturbed run, byte by byte")
    failed = [
        [{**row, "raw": None} for row in read_jsonl(folder / part / "quarantine.jsonl")] for part in ("out", "calm")
    ]
    check(
        failed[0] == failed[1], f"the same {len(failed[0])} rows failed, for the same reasons, after as many attempts"
    )
    return {"rows": rows_count, "kills": counted, "recorded_calls_repeated": repeated, "lost_in_flight": again}


def recorded(folder: Path) -> list[tuple[str, str | None]]:
    """Key of every reply on record, and why it could not be used."""
    if not record_path(folder).exists():
        return []
    with closing(sqlite3.connect(record_path(folder), timeout=60)) as record:
        if not record.execute("select 1 from sqlite_master where name = 'reply'").fetchone():
            return []
        return record.execute("select key, reason from reply").fetchall()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> None:
    """Both parts, and a result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--rows", type=int, default=12_000, help="rows of the run that is killed")
    parser.add_argument("--kills", type=int, default=50)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("faults", "kills"):
            (folder / part).mkdir()
        measured = {
            "faulty_endpoint": faulty_endpoint(folder / "faults", chosen.calls, chosen.share),
            "killed_run": killed_run(folder / "kills", chosen.rows, chosen.kills),
        }
    publish("faults", measured)


if __name__ == "__main__":
    main()

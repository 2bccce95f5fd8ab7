"""Does the walk survive a dead node? `make slurm-test`

1. The smoke walk on this machine, in shards.
2. The same walk on a real Slurm of two nodes, started here for the purpose. While one of them scores a shard, it dies
   (SIGKILL for its daemon and all that it runs). It stays down; Slurm finds out, puts the job back into its queue, and
   the walk ends by itself on the node that is left.
3. Every artefact of both walks is compared, byte for byte (`same.differences` says with which exceptions).

Needs root, and Debian's packages slurmctld, slurmd, slurm-client and munge, which are installed if they are missing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml
from same import differences
from two_nodes import TwoNodes

from knowtuning.files import ROOT, DataError, write_json, write_text
from knowtuning.run import versions

RESULT = ROOT / "benchmarks" / "results" / "slurm.json"
STAGE = "shard_score"  # the rule whose job loses its node
WORKED = 2.0  # seconds that its job has worked by then
# our Slurm has no accounts and no accounting, and its jobs take seconds
HERE = {"slurm-no-account": True, "slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 2}


def main() -> int:
    """Run both walks, kill the node, compare; print a table and write it to benchmarks/results/slurm.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", default="sft,knowtuning")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where both runs go, and stay (default: a temporary folder)")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="slurm-test-") as temporary:
            Path(temporary).chmod(0o755)  # munge wants the way to its socket open
            measured = test(given.folder or Path(temporary), Path(temporary) / "slurmd", given.arms, given.shards)
    except DataError as error:
        print(f"slurm-test: {error}", file=sys.stderr)
        return 1
    report(measured)
    write_json(RESULT, {**measured, "versions": versions()})
    print(f"-> {RESULT.relative_to(ROOT)}")
    return 1 if measured["differences"] else 0


def test(folder: Path, slurm_folder: Path, arms: str, shards: int) -> dict[str, Any]:
    """Both walks and what came of them."""
    options = ["--arms", arms, "--shards", str(shards)]
    with TwoNodes(slurm_folder) as slurm:
        print("Slurm is up: nodes n1 and n2. The walk on this machine comes first.", flush=True)
        with walk(folder / "local", *options, "--cores", "2") as here:
            alone = finish(here)
        print("The same walk on Slurm:", flush=True)
        settings = ["--jobs", "4", "--workflow-profile", workflow_profile(folder / "profile")]
        with walk(folder / "slurm", *options, "--executor", "slurm", *settings) as there:
            death = kill_in_the_middle(slurm, there)
            seconds = finish(there)
        jobs, nodes = slurm.jobs(), slurm.states()
    compared, different = differences(folder / "local", folder / "slurm")
    return {
        "arms": arms,
        "shards": shards,
        "seconds": {"local": round(alone), "slurm": round(seconds)},
        "jobs": len(jobs),
        "jobs_by_node": {node: sum(job["node"] == node for job in jobs) for node in nodes},
        "nodes_at_the_end": nodes,
        "killed": death,
        "requeued_by_slurm": [job["rule"] for job in jobs if job["restarts"] != "0"],
        "retried_by_snakemake": (folder / "slurm" / "smoke" / "walk.log").read_text().count("Trying to restart job"),
        "compared": compared,
        "differences": different,
    }


@contextmanager
def walk(runs: Path, *options: str) -> Iterator[psutil.Popen]:
    """A smoke walk into a runs folder of its own, as a process that ends with the `with`."""
    command = [sys.executable, "-m", "knowtuning", "walk", "--recipe", "smoke", *options]
    process = psutil.Popen(command, env={**os.environ, "KNOWTUNING_RUNS": str(runs.resolve())})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # it cancels its jobs
            process.wait()


def finish(process: psutil.Popen) -> float:
    """Wait for a walk, and return the seconds that it took."""
    start = process.create_time()
    if process.wait():
        raise DataError(f"the walk ended with exit code {process.returncode}; what it said stands above.")
    return time.time() - start


def workflow_profile(folder: Path) -> str:
    """The settings that the project ships for Slurm, fitted to this one."""
    settings = yaml.safe_load((ROOT / "cluster" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    write_text(folder / "config.yaml", yaml.safe_dump({**settings, **HERE}))
    return str(folder)


def kill_in_the_middle(slurm: TwoNodes, walk: psutil.Popen) -> dict[str, Any]:
    """Wait until a job of the stage is at work on one of the nodes, let that node die, and say when and with what."""
    while walk.poll() is None:
        for job in slurm.jobs():
            if job["state"] == "RUNNING" and job["rule"].startswith(f"rule_{STAGE}"):
                doomed = slurm.processes(job["node"])
                if any(at_work(process) for process in doomed):
                    slurm.fail(job["node"])
                    print(f"Node {job['node']} is dead, and {job['rule']} with it.", flush=True)
                    return {
                        "node": job["node"],
                        "job": job["rule"],
                        "seconds_into_the_walk": round(age(walk)),
                        "processes": len(doomed),
                    }
        time.sleep(0.2)
    raise DataError(f"the walk ended before a job of {STAGE} was seen at work: no node was killed.")


def at_work(process: psutil.Process) -> bool:
    """Whether a process does the work of a shard, and has for a while."""
    try:
        return "shard" in process.cmdline() and age(process) > WORKED
    except psutil.Error:  # it ended while we looked
        return False


def age(process: psutil.Process) -> float:
    """Seconds since a process was started."""
    return time.time() - process.create_time()


def report(measured: dict[str, Any]) -> None:
    """The result on 80 columns."""
    seconds, killed = measured["seconds"], measured["killed"]
    nodes = ", ".join(f"{count} on {node}" for node, count in measured["jobs_by_node"].items())
    rows = {
        "seconds on this machine": seconds["local"],
        "seconds on Slurm": seconds["slurm"],
        "jobs on Slurm": f"{measured['jobs']} ({nodes})",
        f"{killed['node']} killed": f"{killed['seconds_into_the_walk']} s into the walk",
        "  with job": killed["job"],
        "put back by Slurm": ", ".join(measured["requeued_by_slurm"]) or "none",
        "retried by Snakemake": measured["retried_by_snakemake"],
        "artefacts compared": measured["compared"],
        "differences": len(measured["differences"]),
    }
    for name, value in rows.items():
        print(f"{name:<25}{value}")
    for line in measured["differences"]:
        print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())

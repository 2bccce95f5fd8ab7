"""Would the walk run on Kubernetes? `make kubernetes-test`, as far as that can be told without a cluster.

1. Every document of walk.yaml, and every job that Snakemake makes of the smoke walk, is checked against Kubernetes' own
   schema, field by field.
2. A stand-in for the API takes these jobs and runs them as processes which get nothing but what their manifest gives
   them (stand_in.py). One of them is killed while it trains, and tried again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kubernetes_validate
import yaml
from stand_in import StandIn

from knowtuning.artifacts import ROOT, write_json, write_text

FOLDER = ROOT / "cluster" / "kubernetes"
RESULT = ROOT / "benchmarks" / "results" / "kubernetes.json"
VERSION = kubernetes_validate.latest_version()
VICTIM = "vanilla_sft"  # the rule whose pod is killed


def main() -> int:
    """Check, walk, kill a pod; print what came of it, and write it to benchmarks/results/kubernetes.json."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    documents = list(yaml.safe_load_all((FOLDER / "walk.yaml").read_text(encoding="utf-8")))
    for document in documents:
        check(document)
    print(f"walk.yaml: {len(documents)} documents fit the schema of Kubernetes {VERSION}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kubernetes-test-") as temporary:
        folder = Path(temporary)
        with StandIn(check, folder / "pods") as cluster:
            write_json(folder / "kubeconfig", cluster.configuration())
            code, killed = walk(cluster, folder)
        log = (folder / "runs" / "smoke" / "walk.log").read_text(encoding="utf-8")
    measured = {
        "schema": VERSION,
        "documents": len(documents),
        "jobs": len(cluster.jobs),
        "refused": cluster.refused,
        "killed": killed,
        "retried": log.count("Trying to restart job"),
        "exit_code": code,
    }
    print(json.dumps(measured, indent=1))
    write_json(RESULT, measured)
    print(f"-> {RESULT.relative_to(ROOT)}")
    return 0 if code == 0 and not cluster.refused and killed else 1


def check(document: dict) -> None:
    """Raise on a manifest with a field that Kubernetes does not know, or without one that it needs."""
    kubernetes_validate.validate(document, VERSION, strict=True)


def walk(cluster: StandIn, folder: Path) -> tuple[int, str]:
    """The smoke walk over the stand-in: its exit code, and the job whose pod was killed."""
    settings = yaml.safe_load((FOLDER / "config.yaml").read_text(encoding="utf-8"))
    runs = folder / "runs"
    runs.mkdir()
    settings |= {"kubernetes-volume-persistent-volumes": [f"runs:{runs}"], "directory": str(runs)}
    settings |= {"seconds-between-status-checks": 1}
    write_text(folder / "profile" / "config.yaml", yaml.safe_dump(settings))
    command = [sys.executable, "-m", "knowtuning", "walk", "--profile", "smoke", "--arms", "sft", "--shards", "2"]
    command += ["--executor", "kubernetes", "--jobs", "2", "--workflow-profile", str(folder / "profile")]
    environment = {**os.environ, "KNOWTUNING_RUNS": str(runs), "KUBECONFIG": str(folder / "kubeconfig")}
    process, killed = subprocess.Popen(command, env=environment), ""
    try:
        while process.poll() is None:
            killed = killed or kill_one(cluster, runs)
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait()
    return process.returncode, killed


def kill_one(cluster: StandIn, runs: Path) -> str:
    """Kill the pod of the victim once its notebook has begun to train; name the job, or nothing while it has not."""
    if not (runs / "smoke" / "progress" / "02_vanilla_sft.json").exists():
        return ""
    name = next(name for name, job in cluster.jobs.items() if VICTIM in str(job["spec"]["template"]["spec"]))
    cluster.kill(name)
    print(f"The pod of {VICTIM} is dead.", flush=True)
    return VICTIM


if __name__ == "__main__":
    sys.exit(main())

"""Would the walk run on Kubernetes? `make kubernetes-test`, as far as that can be told without a cluster.

1. Every document of walk.yaml, and every job that Snakemake makes of the smoke walk, is checked against Kubernetes' own
   schema, field by field.
2. A stand-in for the API takes these jobs and runs them as processes which get nothing but what their manifest gives
   them (stand_in.py). One of them is killed while it trains, and tried again.
3. A job that asks for two GPUs shows whether they are among its limits, without which Kubernetes gives none.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kubernetes_validate
import yaml
from stand_in import StandIn

from knowtuning.cluster import SET_BY_THE_WALK, on_cluster
from knowtuning.files import ROOT, write_json, write_text

FOLDER = ROOT / "cluster" / "kubernetes"
RESULT = ROOT / "benchmarks" / "results" / "kubernetes.json"
VERSION = kubernetes_validate.latest_version()
VICTIM = "vanilla_sft"  # the rule whose pod is killed
GPU_RULE = """
rule train:
    output: "gpu"
    resources: mem_mb=1000, gpu=2
    shell: "touch {output}"
"""


def main() -> int:
    """Check, walk, kill a pod; print what came of it, and write it to benchmarks/results/kubernetes.json."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    documents = list(yaml.safe_load_all((FOLDER / "walk.yaml").read_text(encoding="utf-8")))
    for document in documents:
        check(document)
    print(f"walk.yaml: {len(documents)} documents fit the schema of Kubernetes {VERSION}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kubernetes-test-") as temporary:
        folder = Path(temporary)
        with StandIn(check, folder / "pods") as cluster:
            os.environ["KUBECONFIG"] = str(write_json(folder / "kubeconfig", cluster.configuration()))
            os.environ["KNOWTUNING_RUNS"] = str(folder / "runs")
            profile = workflow_profile(folder)
            limits = limits_of_a_gpu_job(cluster, folder, profile)
            code, killed = walk(cluster, folder / "runs", profile)
        log = (folder / "runs" / "smoke" / "walk.log").read_text(encoding="utf-8")
    measured = {
        "schema": VERSION,
        "documents": len(documents),
        "jobs": len(cluster.jobs),
        "refused": cluster.refused,
        "killed": killed,
        "retried": log.count("Trying to restart job"),
        "exit_code": code,
        "limits_of_a_gpu_job": limits,
    }
    print(json.dumps(measured, indent=1))
    write_json(RESULT, measured)
    print(f"-> {RESULT.relative_to(ROOT)}")
    return 0 if code == 0 and killed and not cluster.refused and limits["nvidia.com/gpu"] == "2" else 1


def check(document: dict) -> None:
    """Raise on a manifest with a field that Kubernetes does not know, or without one that it needs."""
    kubernetes_validate.validate(document, VERSION, strict=True)


def workflow_profile(folder: Path) -> str:
    """The settings that the project ships for Kubernetes, with the volume in a folder of this machine."""
    settings = yaml.safe_load((FOLDER / "config.yaml").read_text(encoding="utf-8"))
    runs = folder / "runs"
    runs.mkdir()
    settings |= {"kubernetes-volume-persistent-volumes": [f"runs:{runs}"], "directory": str(runs)}
    settings |= {"seconds-between-status-checks": 1}
    write_text(folder / "profile" / "config.yaml", yaml.safe_dump(settings))
    return str(folder / "profile")


def limits_of_a_gpu_job(cluster: StandIn, folder: Path, profile: str) -> dict[str, str]:
    """What a job whose rule asks as the Snakefile's rules do may use at most."""
    write_text(folder / "gpu.smk", GPU_RULE)
    place = on_cluster("kubernetes", 1, "smoke", profile)
    environment = {**os.environ, **place.environment, **dict.fromkeys(SET_BY_THE_WALK, "0")}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / "gpu.smk"), *place.options]
    subprocess.run(command, env=environment, capture_output=True, text=True)
    [job] = cluster.jobs.values()
    return job["spec"]["template"]["spec"]["containers"][0]["resources"].get("limits", {})


def walk(cluster: StandIn, runs: Path, profile: str) -> tuple[int, str]:
    """The smoke walk over the stand-in: its exit code, and the job whose pod was killed."""
    command = [sys.executable, "-m", "knowtuning", "walk", "--recipe", "smoke", "--arms", "sft"]
    command += ["--executor", "kubernetes", "--jobs", "2", "--workflow-profile", profile]
    process, killed = subprocess.Popen(command), ""
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

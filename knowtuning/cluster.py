"""Where the jobs of a walk run: on this machine, on Slurm or on Kubernetes, as options and environment of Snakemake."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from knowtuning.files import ROOT, DataError, shown

# Slurm hands a job the whole environment of its submission, Kubernetes what is named, in a secret of its own
HANDED = ("KNOWTUNING_RUNS", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN", "HF_HOME")
SET_BY_THE_WALK = ("KNOWTUNING_PAY", "KNOWTUNING_SHARD_PAY", "PYTHONHASHSEED")


@dataclass(frozen=True)
class Place:
    """Snakemake's options for a place, their environment, and how the names of the walk's jobs on Slurm begin."""

    options: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    name: str = ""

    def cancel(self) -> None:
        """Cancel what is in Slurm's queue after Snakemake's end: it forgets a job whose state it is asking for then."""
        with suppress(DataError):
            if self.name and (left := queued(self.name)):
                subprocess.run(["scancel", *left])


def here(cores: int) -> Place:
    """This machine: as many jobs at once as their threads fit into `cores`."""
    return Place(["--cores", str(cores)])


def on_cluster(executor: str, jobs: int, recipe: str, workflow_profile: str = "") -> Place:
    """A cluster ("slurm", "kubernetes") with at most `jobs` jobs of this walk under way at once.

    `workflow_profile`: folder with a config.yaml of Snakemake's; by default cluster/<executor>. What is missing for
    that executor raises `DataError`, and so do jobs that an earlier walk over the recipe left in Slurm's queue, as it
    was killed or its machine died: they would write the same files.
    """
    folder = Path(workflow_profile or ROOT / "cluster" / executor).resolve()
    if not (folder / "config.yaml").exists():
        raise DataError(f"{shown(folder)} has no config.yaml: copy cluster/{executor}, change it, and name the copy.")
    if find_spec(f"snakemake_executor_plugin_{executor}") is None:
        raise DataError(f"executor {executor} is missing: pip install -c constraints.txt -e '.[{executor}]'")
    options = ["--jobs", str(jobs), "--workflow-profile", str(folder), "--executor"]
    if executor == "slurm":
        if not which("sbatch"):
            raise DataError("sbatch is not on this machine: start the walk on a login node of the cluster.")
        name = re.sub(r"[^\w-]", "-", f"knowtuning_{recipe}")[:50]  # what the executor allows
        if left := queued(f"{name}_"):
            jobs = f"jobs of a walk over recipe {recipe} are in the queue"
            raise DataError(f"{jobs}: wait for their end, or scancel {' '.join(left)} first.")
        return Place([*options, "slurm", "--slurm-jobname-prefix", name], name=f"{name}_")
    names = [*(name for name in HANDED if name in os.environ), *SET_BY_THE_WALK]
    plugin = os.pathsep.join(filter(None, [str(ROOT / "cluster" / "kubernetes"), os.environ.get("PYTHONPATH")]))
    return Place([*options, "kubernetes-volume", "--envvars", *names], {"PYTHONPATH": plugin})


def queued(prefix: str) -> list[str]:
    """Numbers of this user's jobs in Slurm's queue whose names begin so."""
    queue = subprocess.run(["squeue", "--me", "--noheader", "--format=%i %j"], capture_output=True, text=True)
    if queue.returncode:
        raise DataError(f"Slurm does not answer: {queue.stderr.strip()}")
    rows = [row.split(maxsplit=1) for row in queue.stdout.splitlines()]
    return [number for number, name in rows if name.startswith(prefix)]

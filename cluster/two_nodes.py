"""A real Slurm of two nodes on one machine, for the length of a `with`: munge, a controller, two node daemons."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from knowtuning.files import DataError

NODES = {"n1": 16818, "n2": 16819}  # name: port
# Snakemake's executor takes SLURM_* out of a job's environment, and SLURM_CONF with it: no other place will do
CONFIGURATION = Path("/etc/slurm/slurm.conf")
MARK = "# Written by knowtuning's cluster/slurm_test.py, which removes it when it ends."
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
PATIENCE = 30.0  # seconds for a daemon to come up


def configuration(folder: Path, host: str, cpus: int = 2, memory_mb: int = 8000) -> str:
    """Text of a slurm.conf for two nodes on `host`, whose keys, logs and state lie in `folder`.

    One job a node at a time. A node that is silent for 5 s is down, stays down, and its jobs go back into the queue.
    """
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory_mb}"
        for name, port in NODES.items()
    )
    return f"""{MARK}
ClusterName=two
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=0
SlurmdTimeout=5
KillWait=5
MinJobAge=3600
{nodes}
PartitionName=debug Nodes={",".join(NODES)} Default=YES MaxTime=INFINITE OverSubscribe=EXCLUSIVE
"""


def prepare() -> None:
    """Install what is missing, or say in one sentence (`DataError`) why no Slurm can be started here."""
    if os.geteuid() != 0:
        raise DataError("Slurm's daemons and /etc/slurm/slurm.conf need root: run this as root, best in a container.")
    if CONFIGURATION.exists() and not CONFIGURATION.read_text(encoding="utf-8").startswith(MARK):
        raise DataError(f"{CONFIGURATION} belongs to a Slurm that this did not set up: run it on another machine.")
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise DataError(f"{', '.join(missing)} are missing, and so is apt-get: install Slurm and munge first.")
    print(f"Installing {', '.join(PACKAGES)} with apt-get (15 MB; they stay installed)", flush=True)
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True, text=True)
        if done.returncode:
            raise DataError(f"apt-get {command[0]} failed: {done.stderr.strip().splitlines()[-1]}")


class TwoNodes:
    """Slurm on nodes n1 and n2; everything it wrote and started is gone when the `with` ends, however it ends.

    Example:
        with TwoNodes(Path("/tmp/slurm")) as slurm:
            subprocess.run(["sbatch", "--wrap", "hostname"])
            slurm.fail("n2")
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> TwoNodes:
        prepare()
        if CONFIGURATION.exists() and self.states() is not None:
            raise DataError("another run of this is under way: wait for its end.")
        host = socket.gethostname().split(".")[0]
        try:
            self._write(host)
            self._start("munged", *self._munge(), up=lambda: (self.folder / "munge.socket").exists())
            self._start("slurmctld", "slurmctld", "-D", up=lambda: self.states() is not None)
            for node in NODES:
                self._start(
                    node, "slurmd", "-D", "-N", node, up=lambda node=node: (self.states() or {}).get(node) == "idle"
                )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in NODES.keys() & self._daemons.keys():
            self.fail(node)
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        CONFIGURATION.unlink(missing_ok=True)

    def states(self) -> dict[str, str] | None:
        """State of each node as `sinfo` says it ("idle", "allocated", "down*"), None while nothing answers."""
        done = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%N %T"], capture_output=True, text=True)
        return dict(row.split() for row in done.stdout.splitlines()) if done.returncode == 0 else None

    def jobs(self) -> list[dict[str, str]]:
        """Every job so far: number, rule and wildcards, node, state, restarts."""
        form = "--Format=JobID:|,Comment:|,NodeList:|,State:|,RestartCnt:"
        done = subprocess.run(["squeue", "--noheader", "--states=all", form], capture_output=True, text=True)
        rows = [row.split("|") for row in done.stdout.splitlines()]
        names = ("number", "rule", "node", "state", "restarts")
        return [dict(zip(names, (cell.strip() for cell in row), strict=True)) for row in rows]

    def fail(self, node: str) -> None:
        """What a power cut does: the daemon of the node and all that it runs are gone at once, unannounced."""
        self._daemons[node].kill()
        self._daemons[node].wait()
        steps = tuple(f"slurmstepd: [{job['number']}." for job in self.jobs() if job["node"] == node)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if " ".join(process.cmdline()).startswith(steps):
                    process.kill()
        for process in self.processes(node):
            with suppress(psutil.Error):
                process.kill()

    def processes(self, node: str) -> list[psutil.Process]:
        """What the jobs of a node run."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("SLURMD_NODENAME") == node:
                    found.append(process)
        return found

    def _write(self, host: str) -> None:
        (self.folder / "state").mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
        CONFIGURATION.write_text(configuration(self.folder, host), encoding="utf-8")

    def _munge(self) -> list[str]:
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munged.seed"}
        return ["munged", "--foreground", *(f"--{name}={self.folder / file}" for name, file in files.items())]

    def _start(self, name: str, *command: str, up) -> None:
        """Start a daemon that dies with this process, but not by the Ctrl-C that ends it, and wait until it is up."""
        log = self.folder / f"{name}.out"
        with open(log, "w", encoding="utf-8") as out:
            mortal = ["setpriv", "--pdeathsig", "KILL", *command]
            self._daemons[name] = subprocess.Popen(
                mortal, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while not up():
            if self._daemons[name].poll() is not None or time.monotonic() > deadline:
                raise DataError(f"{name} did not come up: {' / '.join(log.read_text().splitlines()[-3:])}")
            time.sleep(0.2)

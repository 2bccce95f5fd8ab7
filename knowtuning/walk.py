"""The whole walk, here or on a cluster: Snakemake orders the notebooks, this shows how far they are."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import psutil

from knowtuning.cluster import Place, here
from knowtuning.execute import NOTEBOOKS
from knowtuning.files import ROOT, DataError, shown
from knowtuning.progress import details
from knowtuning.run import runs_folder
from knowtuning.teacher.record import Record

GRACE = 90.0  # seconds: more than a call of the teacher may take
TEACHER_RULES = ("extraction", "rewriting", "disturbance")
TARGETS = ("all", "results")  # rules that only gather
# a first guess for what is not a notebook; the speed seen corrects it
SECONDS = {
    **{"study_rates": 900.0, "study_choice": 10.0, "study_cell": 550.0, "study_point": 75.0},
    **{"shard_extract": 5.0, "shard_score": 10.0, "shard_rewrite": 5.0, "shard_disturb": 5.0, "gather": 2.0},
}


def walk(
    recipe: str,
    seeds: str,
    arms: str,
    place: Place,
    options: dict[str, str],
    pay: str = "",
    retry_failed: bool = False,
) -> int:
    """Execute every notebook whose artefacts are missing or older than their inputs; return Snakemake's exit code.

    A run that was killed goes on where it stopped. A second walk over the same recipe at the same time is refused.
    `place`: where the notebooks run, from `here` or `on_cluster`.
    `pay`: parameters of the notebooks that ask the teacher, which are no reason to run one again ("max_cost=5.0").
    `retry_failed`: run these notebooks again, and ask anew about the rows that were given up.
    """
    folder = runs_folder() / recipe
    config = {"recipe": recipe, "seeds": seeds, "arms": arms, **options}
    forced = ["--forcerun", *TEACHER_RULES] if retry_failed else []
    with _alone(folder, f"another walk over recipe {recipe}") as lock:
        if retry_failed:
            with Record(folder / "teacher") as record:
                record.forgive()
        return _snakemake(folder, lock, config, place, forced, pay)


def run_graph(snakefile: Path, folder: Path, name: str, config: dict[str, str], cores: int, targets: list[str]) -> int:
    """Run another graph here as `walk` runs its own, with lock, log and progress in `folder`; Snakemake's exit code."""
    with _alone(folder, f"another run of the {name}") as lock:
        return _snakemake(folder, lock, config, here(cores), targets, snakefile=snakefile)


@contextmanager
def _alone(folder: Path, other: str) -> Iterator[TextIO]:
    """Hold the lock of a folder, whose progress files begin anew; refuse where another run holds it."""
    (folder / "progress").mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{other} is running: wait for it, or stop it first.") from None
        for stale in (folder / "progress").glob("*.json"):
            stale.unlink()
        yield lock


def _snakemake(
    folder: Path,
    lock: TextIO,
    config: dict[str, str],
    place: Place,
    targets: list[str],
    pay: str = "",
    snakefile: Path = ROOT / "Snakefile",
) -> int:
    """Run Snakemake, follow it on the terminal, and end it and all its children whenever this ends."""
    command = [sys.executable, "-m", "snakemake", *targets, "--snakefile", str(snakefile)]
    command += [*place.options, "--rerun-incomplete", "--nolock", "--keep-going"]
    command += ["--config", *(f"{k}={v}" for k, v in config.items())]
    environment = {**os.environ, **place.environment, "KNOWTUNING_PAY": pay, "KNOWTUNING_SHARD_PAY": _as_options(pay)}
    # libraries write sets into files (the modules of an adapter): the same order in every run
    environment["PYTHONHASHSEED"] = "0"
    signal.signal(signal.SIGTERM, _told_to_stop)
    signal.signal(signal.SIGINT, _told_to_stop)  # Snakemake must hear it, which a shell's & prevents
    with open(folder / "walk.log", "w+", encoding="utf-8") as log:
        # the children inherit the lock, so that it lasts as long as any of them and goes with the last
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, pass_fds=[lock.fileno()])
        try:
            _follow(child, log, folder)
        except KeyboardInterrupt as reason:
            _stop(child, told=reason.args == (signal.SIGINT,))
            place.cancel()
            print("Stopped. The same command goes on from here; no teacher call is repeated.")
            return 130
        except BaseException:
            _end(child, _family(child), told=False)
            place.cancel()
            raise
    if child.returncode:
        for line in _failures(Path(log.name)):
            print(line, file=sys.stderr)
        print(f"The walk stopped with exit code {child.returncode}; its log is {shown(folder / 'walk.log')}.")
    return child.returncode


def _as_options(pay: str) -> str:
    """How the teacher is paid, as `knowtuning shard` is told.

    >>> _as_options("max_cost=5.0 batch=true")
    '--max-cost=5.0 --batch'
    """
    return " ".join("--" + word.removesuffix("=true").replace("_", "-") for word in pay.split())


def _told_to_stop(number: int, frame: object) -> None:
    """Leave what is being done, once: whatever else is told from here on must not leave what stops the walk."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def _stop(child: subprocess.Popen, told: bool) -> None:
    """Say that the walk stops and end it in order; from the sentence on, Ctrl-C kills what still runs.

    The kill is done by the signal's handler, as an exception could be raised anywhere, so also past its `except`.
    """
    family = _family(child)
    signal.signal(signal.SIGINT, lambda number, frame: _kill(family))
    print("\nStopping: what runs comes to its end in order; a second Ctrl-C kills it.", flush=True)
    _end(child, family, told)


def _family(child: subprocess.Popen) -> list[Any]:
    """Snakemake and all that it started, as long as it runs."""
    return [child, *psutil.Process(child.pid).children(recursive=True)] if child.poll() is None else []


def _end(child: subprocess.Popen, family: list[Any], told: bool) -> None:
    """End Snakemake and the notebooks under it, and wait: paid calls under way are still recorded.

    Ctrl-C in a terminal has `told` them all already; anything else would leave them behind, and with them the lock.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # after an error too, told once is enough
    for process in [] if told else family:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if process is child:
                # Snakemake starts nothing new and waits for what runs here, or cancels what runs on a cluster
                child.send_signal(signal.SIGINT if "--executor" in child.args else signal.SIGTERM)
            elif any("ipykernel" in word for word in process.cmdline()):
                process.send_signal(signal.SIGINT)  # a kernel interrupts its cell, whatever its parents ignore
            elif {"study", "shard"}.intersection(process.cmdline()):
                process.terminate()  # goes on where it was
    try:
        child.wait(timeout=GRACE)
    except subprocess.TimeoutExpired:
        _kill(family)
        child.wait()


def _kill(family: list[Any]) -> None:
    for process in family:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            process.kill()


class Plan:
    """What Snakemake said it will run (its job table), has started and has finished, read from its log as it grows."""

    def __init__(self) -> None:
        self.planned: dict[str, int] = {}
        self.finished: list[str] = []
        self.running: dict[str, tuple[str, float]] = {}
        self._in_table = False
        self._rule = ""

    def read(self, line: str) -> None:
        """Take one line of the log in."""
        if line.startswith("Job stats"):
            self._in_table = True
        elif self._in_table and (match := re.fullmatch(r"(\w+)\s+(\d+)", line.strip())):
            if match[1] == "total":
                self._in_table = False
            elif match[1] not in TARGETS:
                self.planned[match[1]] = int(match[2])
        elif match := re.match(r"\s*(?:local)?rule (\w+):", line):
            self._rule = match[1]
        elif (match := re.match(r"\s+jobid: (\d+)", line)) and self._rule not in TARGETS:
            self.running[match[1]] = (self._rule, time.time())
        elif (match := re.match(r"Finished job(?:id:)? (\d+)", line)) and match[1] in self.running:
            self.finished.append(self.running.pop(match[1])[0])

    def seconds_left(self, expected: dict[str, float], elapsed: float) -> float:
        """Work left, at the speed seen so far: expected seconds of what is done against the seconds it took."""
        total = sum(expected.get(rule, 30) * count for rule, count in self.planned.items())
        done = sum(expected.get(rule, 30) for rule in self.finished)
        for rule, start in self.running.values():
            done += min(time.time() - start, 0.95 * expected.get(rule, 30))
        speed = done / elapsed if self.finished and elapsed else 1.0
        return (total - done) / speed


def expected_seconds() -> dict[str, float]:
    """Seconds that each notebook took when it was last committed, by the name of its rule."""
    seconds = dict(SECONDS)
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        stamp = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("knowtuning", {})
        seconds[path.stem.split("_", 1)[1]] = float(stamp.get("seconds", 30))
    return seconds


def _follow(child: subprocess.Popen, log: TextIO, folder: Path) -> None:
    """Print a line for every finished notebook, and one now and then that says what is running and how long still."""
    plan, expected, start, spoken = Plan(), expected_seconds(), time.time(), 0.0
    told, every = 0, 2 if sys.stdout.isatty() else 15
    with open(log.name, encoding="utf-8") as reader:
        while True:
            running = child.poll() is None
            for line in reader:
                plan.read(line.rstrip("\n"))
            while told < len(plan.finished):
                told += 1
                share = f"{told}/{sum(plan.planned.values())}"
                _say(f"{_clock(time.time() - start)}  {share}  done {_notebook(plan.finished[told - 1])}", final=True)
            if not running:
                return
            if plan.running and time.time() - spoken > every:
                spoken = time.time()
                states = _states(folder)
                left = _left(states, plan.seconds_left(expected, time.time() - start))
                begun, end = f"{_clock(time.time() - start)}  ", f" · {_about(left)}"
                room = 79 - len(begun) - len(end) if sys.stdout.isatty() else None
                _say(begun + _stages(states)[:room] + end)
            time.sleep(0.3)


def _states(folder: Path) -> dict[str, list[dict]]:
    """What the running notebooks, and all shards of a stage together, last said of themselves."""
    states: dict[str, list[dict]] = {}
    for path in sorted((folder / "progress").glob("*.json")):
        with suppress(FileNotFoundError):  # one may end meanwhile
            states.setdefault(path.stem.split("_")[0], []).append(json.loads(path.read_text(encoding="utf-8")))
    return states


def _left(states: dict[str, list[dict]], planned: float) -> float:
    """Seconds of work left: those `planned`, and on a machine that is slower today not less than a stage says.

    >>> _left({"02": [{"left": 90.0}, {"left": None}]}, 60.0)
    90.0
    """
    return max([planned, *(state.get("left") or 0.0 for running in states.values() for state in running)])


def _stages(states: dict[str, list[dict]]) -> str:
    """The states in words. Each shard pays for itself: costs, failures and speeds add up, and the slowest one says how
    long it takes.
    """
    stages = []
    for name, running in states.items():
        done, total = (sum(state[key] for state in running) for key in ("done", "total"))
        said = running[0]["stage"] if len(running) == 1 else f"{len(running)} shards"
        share = [f"{100 * done / total:.0f}%"] if total else []
        facts = ", ".join(details(_together(running)))
        stages.append(" ".join([name, said, *share, *([f"({facts})"] if facts else [])]))
    return ", ".join(stages) or "starting"


def _together(states: list[dict]) -> dict:
    """One state out of those of several shards."""
    if len(states) == 1:
        return states[0]
    numbers = [state.get("numbers", {}) for state in states]
    rates = [state["rate"] for state in states if state.get("rate")]
    lefts = [state["left"] for state in states if state.get("left") is not None]
    costs = [each["cost"] for each in numbers if isinstance(each.get("cost"), float)]
    together = {"cost": sum(costs)} if costs else {}
    together["failed"] = sum(each.get("failed", 0) for each in numbers)
    return {"unit": "rows", "rate": sum(rates) or None, "left": max(lefts, default=None), "numbers": together}


def _about(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min left" if seconds > 90 else "about a minute left"


def _say(text: str, final: bool = False) -> None:
    if sys.stdout.isatty():
        print(f"\r\033[K{text[:79]}", end="\n" if final else "", flush=True)
    else:
        print(text, flush=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:2d}:{int(seconds) % 60:02d}"


def _notebook(rule: str) -> str:
    return next((path.stem for path in NOTEBOOKS.glob(f"[0-9]*_{rule}.ipynb")), rule.replace("_", " "))


def _failures(log: Path) -> list[str]:
    """The sentences with which notebooks ended, here or in the logs of their jobs, or the last lines where none did."""
    lines = log.read_text(encoding="utf-8").splitlines()
    jobs = [Path(match[1]) for line in lines if (match := re.match(r"\s+log: (.+?) \(check log file", line))]
    told = [line for job in jobs if job.exists() for line in job.read_text(encoding="utf-8").splitlines()]
    sentences = [line for line in [*lines, *told] if line.startswith("knowtuning: ")]
    return list(dict.fromkeys(sentences)) or [line for line in lines if line.strip()][-8:]

"""The whole walk, here or on a cluster: Snakemake orders the notebooks, this shows how far they are."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import psutil
from tqdm import tqdm

from knowtuning.cluster import Place, here
from knowtuning.execute import NOTEBOOKS
from knowtuning.files import ROOT, DataError, runs_folder, shown
from knowtuning.progress import words
from knowtuning.recipe import Recipe, keep
from knowtuning.teacher.record import Record

GRACE = 90.0  # seconds: more than a call of the teacher may take
TEACHER_RULES = ("extraction", "rewriting", "disturbance")
TARGETS = ("all", "results", "total")  # rules that only gather, and their sum
# a first guess for what is not a notebook; the speed seen corrects it
SECONDS = {
    **{"study_rates": 900.0, "study_choice": 10.0, "study_cell": 550.0, "study_point": 75.0},
    **{"shard_extract": 5.0, "shard_score": 10.0, "shard_rewrite": 5.0, "shard_disturb": 5.0, "gather": 2.0},
}


def walk(
    recipe: Recipe,
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
    folder = runs_folder() / recipe.name
    config = {"recipe": recipe.name, "seeds": seeds, "arms": arms, **options}
    with alone(folder, f"another walk over recipe {recipe.name}") as lock:
        keep(recipe)
        if retry_failed:
            with Record(folder / "teacher") as record:
                record.forgive()
        return snakemake(folder, lock, config, place, ["--forcerun", *TEACHER_RULES] if retry_failed else [], pay)


@contextmanager
def alone(folder: Path, other: str) -> Iterator[TextIO]:
    """Hold the lock of a folder, whose progress files begin anew; refuse where another run holds it."""
    (folder / "progress").mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{other} is running: wait for it, or stop it first.") from None
        for stale in (folder / "progress").glob("*.json*"):
            stale.unlink()
        yield lock


def run_graph(snakefile: Path, folder: Path, name: str, config: dict[str, str], cores: int, targets: list[str]) -> int:
    """Run another graph here as `walk` runs its own, with lock, log and progress in `folder`; Snakemake's exit code."""
    with alone(folder, f"another run of the {name}") as lock:
        return snakemake(folder, lock, config, here(cores), targets, snakefile=snakefile)


def snakemake(
    folder: Path,
    lock: TextIO,
    config: dict[str, str],
    place: Place,
    targets: Sequence[str] = (),
    pay: str = "",
    snakefile: Path = ROOT / "Snakefile",
) -> int:
    """Run Snakemake, show how far it is, and end it and all its children whenever this ends."""
    events = folder / "progress" / "events.jsonl"
    events.touch()
    command = [sys.executable, "-m", "knowtuning.events", str(events), *targets]
    command += ["--snakefile", str(snakefile), "--rerun-incomplete", "--nolock", "--keep-going"]
    command += [*place.options, "--config", *(f"{name}={value}" for name, value in config.items())]
    environment = {**os.environ, **place.environment, "KNOWTUNING_PAY": pay, "KNOWTUNING_SHARD_PAY": _as_options(pay)}
    # libraries write sets into files (the modules of an adapter): the same order in every run
    environment["PYTHONHASHSEED"] = "0"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _told_to_stop)
    plan = Plan()
    with open(folder / "walk.log", "w", encoding="utf-8") as log:
        # Snakemake inherits the lock, so that it lasts as long as it; of a terminal's Ctrl-C it hears from here alone
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, pass_fds=[lock.fileno()], start_new_session=True
        )
        try:
            _follow(child, events, plan)
        except BaseException as reason:
            _stop(child, aloud=isinstance(reason, KeyboardInterrupt))
            place.cancel()
            if not isinstance(reason, KeyboardInterrupt):
                raise
            print("Stopped. The same command goes on from here; no teacher call is repeated.")
            return 130
    if child.returncode:
        print("\n".join(_failures(Path(log.name), plan.logs)), file=sys.stderr)
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
    for later in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(later, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def _stop(child: subprocess.Popen, aloud: bool = True) -> None:
    """End Snakemake and the notebooks under it, and wait: paid calls under way are still recorded.

    From its sentence on, Ctrl-C kills what still runs: by the signal's handler, as an exception could be raised
    anywhere, so also past its `except`.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # after an error too, told once is enough
    family = [child, *psutil.Process(child.pid).children(recursive=True)] if child.poll() is None else []
    signal.signal(signal.SIGINT, lambda number, frame: _kill(family))
    if aloud:
        print("\nStopping: what runs comes to its end in order; a second Ctrl-C kills it.", flush=True)
    for process in family:
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
    """What Snakemake plans, has started and has finished, by the events of `knowtuning.events`."""

    def __init__(self) -> None:
        self.planned: dict[str, int] = {}
        self.running: dict[int, tuple[str, float]] = {}
        self.finished: list[str] = []
        self.logs: list[Path] = []

    def read(self, line: str) -> str | None:
        """Take one event in; the rule that is finished with it, if one is."""
        event = json.loads(line)
        if "planned" in event:
            self.planned = {rule: count for rule, count in event["planned"].items() if rule not in TARGETS}
        elif event.get("rule", TARGETS[0]) not in TARGETS:
            self.running[event["started"]] = (event["rule"], time.time())
        elif event.get("finished") in self.running:
            self.finished.append(self.running.pop(event["finished"])[0])
            return self.finished[-1]
        self.logs += map(Path, event.get("logs", []))
        return None

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


def _follow(child: subprocess.Popen, events: Path, plan: Plan) -> None:
    """Print a line for every finished notebook; what is running and how long still, below it or now and then."""
    expected, start, spoken = expected_seconds(), time.time(), 0.0
    with (
        open(events, encoding="utf-8") as lines,
        tqdm(bar_format="{desc}", leave=False, disable=None, dynamic_ncols=True, file=sys.stdout) as below,
    ):
        while True:
            ended = child.poll() is not None
            clock = tqdm.format_interval(time.time() - start)
            for line in lines:
                if rule := plan.read(line):
                    share = f"{len(plan.finished)}/{sum(plan.planned.values())}"
                    _say(f"{clock}  {share}  done {_notebook(rule)}")
            if ended:
                return
            if plan.running and time.time() - spoken > (15 if below.disable else 2):
                spoken = time.time()
                stages, slowest = running_stages(events.parent)
                # on a machine that is slower today not less than a stage says
                left = max(slowest, plan.seconds_left(expected, time.time() - start))
                told = f"{clock}  about {max(1, left / 60):.0f} min left · {stages or 'starting'}"
                _say(told) if below.disable else below.set_description_str(told)
            time.sleep(0.3)


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def running_stages(progress: Path) -> tuple[str, float]:
    """What the running notebooks, and all shards of a stage together, last said of themselves; the longest time left.

    Each shard pays for itself: costs, failures and speeds add up, and the slowest one says how long it takes.
    """
    states: dict[str, list[dict]] = {}
    for path in sorted(progress.glob("*.json")):
        with suppress(FileNotFoundError):  # one may end meanwhile
            states.setdefault(path.stem.split("_")[0], []).append(json.loads(path.read_text(encoding="utf-8")))
    stages, lefts = [], [0.0]
    for name, parts in states.items():
        done, total, rate = (sum(part[key] or 0 for part in parts) for key in ("done", "total", "rate"))
        left = max(part["left"] or 0 for part in parts)
        said = parts[0]["said"]
        if len(parts) > 1:
            costs = [cost for part in parts if isinstance(cost := part["numbers"].get("cost"), float)]
            failed = sum(part["numbers"].get("failed", 0) for part in parts)
            said = ", ".join(words(({"cost": sum(costs)} if costs else {}) | {"failed": failed}))
        facts = [f"{tqdm.format_interval(left)} left"] if left else []
        facts += [said] if said else []
        facts += [f"{rate:.1f} {parts[0]['unit']}/s"] if rate and total > 1 else []
        what = parts[0]["stage"] if len(parts) == 1 else f"{len(parts)} shards"
        stages.append(f"{name} {what} {done / (total or 1):.0%}" + (f" ({', '.join(facts)})" if facts else ""))
        lefts.append(left)
    return ", ".join(stages), max(lefts)


def _notebook(rule: str) -> str:
    return next((path.stem for path in NOTEBOOKS.glob(f"[0-9]*_{rule}.ipynb")), rule.replace("_", " "))


def _failures(log: Path, jobs: list[Path]) -> list[str]:
    """The sentences with which notebooks ended, here or in the logs of their jobs, or the last lines where none did."""
    lines = log.read_text(encoding="utf-8").splitlines()
    told = [line for job in jobs if job.exists() for line in job.read_text(encoding="utf-8").splitlines()]
    sentences = [line for line in [*lines, *told] if line.startswith("knowtuning: ")]
    return list(dict.fromkeys(sentences)) or [line for line in lines if line.strip()][-8:]

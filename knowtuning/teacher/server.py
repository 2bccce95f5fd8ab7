"""The local teacher: a server on this machine whose models are Python functions, without a key, a network or a bill.

    python -m knowtuning.teacher.server --model lab-oracle --settings lab

prints `http://127.0.0.1:PORT/v1` once it is ready and ends when its standard input closes, so that it cannot outlive
the run that started it, however that run dies. Its options make it any other endpoint: see `--help`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aiohttp import web

from knowtuning.files import ROOT
from knowtuning.teacher.errors import TeacherError
from knowtuning.teacher.serving.app import build_app
from knowtuning.teacher.serving.completion import Model
from knowtuning.teacher.serving.options import ServerOptions, add_arguments, from_arguments, to_arguments

if TYPE_CHECKING:
    from knowtuning.teacher.client import Teacher

LOCAL_MODELS = ("lab-oracle", "english-rules")
READY_WITHIN = 30.0  # seconds
_DEFAULTS = ServerOptions()
LOCAL_PATIENCE = {
    "max_retries": 3,
    "backoff": 0.05,
    "poll": 0.2,
}  # nobody else is served here: what fails twice will fail again


def is_local(model: str) -> bool:
    """Whether a model is one of those served on this machine: `LOCAL_MODELS`, lab-oracle-errors-NN and lab judges."""
    from knowtuning.lab.judges import judge_errors
    from knowtuning.lab.noise import error_percent

    return model in LOCAL_MODELS or error_percent(model) is not None or judge_errors(model) is not None


def load_model(name: str, settings: str = "lab") -> Model:
    """The function behind a local model; `settings` names the lab whose world the oracle knows.

    Each model's module is imported only when it is asked for.
    """
    if name.startswith(("lab-oracle", "lab-judge")) and is_local(name):
        from knowtuning.lab.judges import LabJudge, judge_errors
        from knowtuning.lab.noise import NoisyOracle, error_percent
        from knowtuning.lab.oracle import Oracle
        from knowtuning.lab.world import World
        from knowtuning.recipe import lab_of

        if (lab := lab_of(settings)) is None:
            raise TeacherError(f"There is no lab called {settings!r}: give the name of a recipe that has one.")
        world = World.load(lab)
        if (errors := judge_errors(name)) is not None:
            return LabJudge(world, errors).answer
        percent = error_percent(name)
        return (NoisyOracle(world, percent / 100) if percent else Oracle(world)).answer
    if name == "english-rules":
        from knowtuning.lab.rules import answer

        return answer
    known = ", ".join((*LOCAL_MODELS, "lab-oracle-errors-NN", "lab-judge-errors-NN"))
    raise TeacherError(f"There is no local model {name!r}: use one of {known}.")


async def start(app: web.Application, port: int = 0) -> tuple[web.AppRunner, str]:
    """Listen on the loopback interface (port 0: any free one); the runner, to be cleaned up, and the base URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"


def run_server(
    models: str | Mapping[str, Model], settings: str = "lab", port: int = 0, options: ServerOptions = _DEFAULTS
) -> None:
    """Serve a local model, or functions by name, until standard input closes or the process is told to stop.

    Prints the base URL once it is ready, and nothing else.
    """
    if isinstance(models, str):
        models = {models: load_model(models, settings)}
    asyncio.run(_serve(build_app(models, options), port))


async def _serve(app: web.Application, port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner, base_url = await start(app, port)
    # A thread, because an event loop cannot wait for every kind of standard input.
    threading.Thread(target=_wait_for_end_of_input, args=(loop, stop), daemon=True).start()
    print(base_url, flush=True)
    await stop.wait()
    await runner.cleanup()


def _wait_for_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


@contextmanager
def local_server(
    model: str, settings: str = "lab", delay: float = 0.0, options: ServerOptions = _DEFAULTS
) -> Iterator[str]:
    """Run a local model's server as a child process; yields its base URL and stops it at the end.

    `delay`, where it is given, takes the place of the one in `options`.
    Raises `TeacherError` with the child's own words when it does not start, or when it died and left calls unanswered.
    """
    command = [sys.executable, "-m", "knowtuning.teacher.server", "--model", model]
    command += ["--settings", settings, *to_arguments(replace(options, delay=delay) if delay else options)]
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=environment,
            start_new_session=True,  # an interrupt of the notebook is for the notebook
        )
        try:
            base_url = _wait_for_address(process)
            if not base_url:
                _stop(process)
                raise TeacherError(f"The local server of {model} did not start: {_last_words(errors)}")
            yield base_url
        except TeacherError as error:
            if not base_url or process.poll() is None:
                raise
            raise TeacherError(f"The local server of {model} died during the run: {_last_words(errors)}") from error
        finally:
            _stop(process)


def _wait_for_address(process: subprocess.Popen) -> str:
    """The server's first line; empty when it ends, or says nothing in time."""
    ready, _, _ = select.select([process.stdout], [], [], READY_WITHIN)
    return process.stdout.readline().decode().strip() if ready else ""


def _stop(process: subprocess.Popen) -> None:
    process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


@contextmanager
def open_teacher(
    model: str, directory: Path | str, settings: str = "lab", concurrency: int = 16, **options: Any
) -> Iterator[Teacher]:
    """The teacher of a run, with its cache and quarantine in `directory`.

    A local model gets a server of its own unless OPENAI_BASE_URL names another; any other model is asked at the
    endpoint. `options` are those of `Teacher`.

    >>> with open_teacher("english-rules", "runs/demo/teacher") as teacher:
    ...     replies = teacher.map(EXTRACT, rows)  # doctest: +SKIP
    """
    from knowtuning.teacher.client import Teacher

    directory = Path(directory)
    files = {"cache_path": directory / "cache.jsonl", "quarantine_path": directory / "quarantine.jsonl"}
    with ExitStack() as stack:
        if is_local(model) and not os.environ.get("OPENAI_BASE_URL"):
            address = {"base_url": stack.enter_context(local_server(model, settings)), "api_key": "local"}
            options = address | LOCAL_PATIENCE | options
        yield stack.enter_context(Teacher(model, **files, concurrency=concurrency, **options))


def main() -> None:
    """Serve one local model; the command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m knowtuning.teacher.server", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help=f"{', '.join(LOCAL_MODELS)} or lab-oracle-errors-NN")
    parser.add_argument("--settings", default="lab", help="the lab that lab-oracle knows: lab or smoke")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    add_arguments(parser)
    chosen = parser.parse_args()
    try:
        options = from_arguments(chosen)
    except ValueError as error:
        parser.error(str(error))
    run_server(chosen.model, chosen.settings, chosen.port, options)


if __name__ == "__main__":
    main()

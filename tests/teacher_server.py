"""A teacher's server in a thread of the test process, with a log of what it was asked and faults on demand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from knowtuning.teacher.app import Faults, build_app
from knowtuning.teacher.server import start


def stub(task: str, inputs: dict) -> dict:
    """A model whose replies are right by form and easy to foresee."""
    if task == "extract":
        return {"facts": [part.strip() + "." for part in inputs["answer"].split(".") if part.strip()]}
    if task == "rewrite":
        return {"question": f"In particular: {inputs['question']}", "answer": " ".join(inputs["facts"])}
    if task == "rephrase":
        return {"answer": "In short: " + " ".join(inputs["facts"])}
    if task == "revise":
        return {"facts": ["It is wrong that " + fact for fact in inputs["facts"]]}
    raise ValueError(f"there is no task {task}.")


class Served:
    """A running server: its address and the bodies of all requests so far."""

    def __init__(self) -> None:
        self.base_url = ""
        self.requests: list[dict] = []


@contextmanager
def serving(faults: Faults | None = None, model: Callable[[str, dict], dict] = stub) -> Iterator[Served]:
    """Serve `model` as "stub" while the block runs; `faults` may answer a request in its place."""
    served = Served()

    def log(request: dict):
        served.requests.append(request)
        return faults(request) if faults is not None else None

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner, served.base_url = asyncio.run_coroutine_threadsafe(start(build_app({"stub": model}, log)), loop).result()
    try:
        yield served
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

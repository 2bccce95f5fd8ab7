"""A teacher's server in a thread of the test process, with a log of what it was asked and faults on demand."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from endpoints.app import Intercept, build_endpoint
from endpoints.options import Options
from openai import DefaultHttpxClient, OpenAI

from knowtuning.teacher.prompts import EXTRACT, messages, response_format
from knowtuning.teacher.server import start

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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
    if task == "verify":
        return {
            "verdicts": ["supported" if fact in inputs["reference"] else "contradicted" for fact in inputs["facts"]]
        }
    if task == "prefer":
        return {"preferred": "first" if len(inputs["first"]) > len(inputs["second"]) else "second"}
    if task == "judge":
        return dict.fromkeys(("completeness", "factuality", "logicality"), "tie")
    raise ValueError(f"there is no task {task}.")


class Served:
    """A running server: its address and the bodies of all requests so far."""

    def __init__(self) -> None:
        self.base_url = ""
        self.requests: list[dict] = []


@contextmanager
def serving(
    faults: Intercept | None = None,
    model: Callable[[str, dict], dict] = stub,
    options: Options | None = None,
) -> Iterator[Served]:
    """Serve `model` as "stub" while the block runs; `faults` may answer a request in its place."""
    served = Served()

    def log(request: dict):
        served.requests.append(request)
        return faults(request) if faults is not None else None

    app = build_endpoint({"stub": model}, options or Options(), log)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner, served.base_url = asyncio.run_coroutine_threadsafe(start(app), loop).result()
    try:
        yield served
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def request_body(**changes) -> dict:
    chat = messages(EXTRACT, {"question": "Q?", "answer": "A. B."})
    return {"model": "stub", "messages": chat, "response_format": response_format(EXTRACT)} | changes


def post(base_url: str, body: bytes | dict) -> tuple[int, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{base_url}/chat/completions", data, {"Content-Type": "application/json"})
    try:
        with OPENER.open(request, timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def get(url: str) -> dict:
    with OPENER.open(url, timeout=10) as response:
        return json.loads(response.read())


_PLAIN = DefaultHttpxClient(trust_env=False, verify=False)


def sdk(base_url: str) -> OpenAI:
    """OpenAI's own client, which tries once and knows no proxy."""
    return OpenAI(base_url=base_url, api_key="k", max_retries=0, http_client=_PLAIN)

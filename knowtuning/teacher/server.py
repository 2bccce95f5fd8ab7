"""The local teacher: a server on this machine whose models are Python functions, without a key, a network or a bill.

`knowtuning serve` prints its address once it is ready, and ends when its standard input closes, so that it cannot
outlive the run that started it, however that run dies.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aiohttp import web

from knowtuning.files import ROOT
from knowtuning.teacher.errors import TeacherError
from knowtuning.teacher.prompts import TASKS

if TYPE_CHECKING:
    from knowtuning.teacher.client import Teacher

Model = Callable[[str, dict], dict]
LOCAL_MODELS = ("lab-oracle", "english-rules")
READY_WITHIN = 30.0  # seconds
LARGEST_REQUEST = 64 * 2**20  # bytes
# nobody else is served here: what fails twice will fail again
LOCAL_PATIENCE = {"max_retries": 3, "backoff": 0.05}
_numbers = itertools.count()


# --- the models


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


# --- the protocol: chat completions and the list of models


class RequestError(Exception):
    """A request that gets an error in reply: HTTP `status`, OpenAI's error object as `body`, and more `headers`."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, headers: Any = None
    ) -> None:
        super().__init__(message)
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.status, self.headers = status, headers
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def read_call(request: Any, models: Mapping[str, Model]) -> tuple[str, dict]:
    """The task that a chat request asks for and its inputs; raises `RequestError` when it asks for nothing.

    The task is the name of the requested JSON schema or, without one, the task whose instructions the system message
    begins with. The inputs are the JSON of the last user message.
    """
    if not isinstance(request, dict):
        raise RequestError(400, "The request is not a JSON object.")
    if not isinstance(model := request.get("model"), str):
        raise RequestError(400, "The request names no model.", "model")
    if model not in models:
        raise RequestError(404, f"The model {model!r} does not exist here.", "model", "model_not_found")
    if request.get("stream"):
        raise RequestError(400, "This server does not stream.", "stream")
    chat = request.get("messages")
    if not (isinstance(chat, list) and chat and all(isinstance(message, dict) for message in chat)):
        raise RequestError(400, "The request holds no list of messages.", "messages")
    texts = {role: [m.get("content") for m in chat if m.get("role") == role] for role in ("system", "user")}
    task = _named_task(request.get("response_format"), texts["system"])
    try:
        inputs = json.loads(texts["user"][-1])
    except (IndexError, TypeError, json.JSONDecodeError, RecursionError):
        inputs = None
    if not isinstance(inputs, dict):
        raise RequestError(422, "The last user message is not a JSON object of inputs.", "messages")
    return task, inputs


def _named_task(response_format: Any, instructions: list[Any]) -> str:
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        schema = response_format.get("json_schema")
        if isinstance(schema, dict) and isinstance(schema.get("name"), str):
            return schema["name"]
        raise RequestError(400, "The response format names no schema.", "response_format.json_schema.name")
    for text, task in itertools.product(instructions, TASKS.values()):
        if isinstance(text, str) and text.startswith(task.system):
            return task.name
    raise RequestError(400, "No system message holds a known task's instructions, and no schema names it.", "messages")


def ask_model(model: Model, task: str, inputs: dict) -> tuple[str | None, str | None]:
    """A model's reply as JSON text, or, for inputs that are not the model's, None and the reason of its refusal."""
    try:
        return json.dumps(model(task, inputs), ensure_ascii=False), None
    except ValueError as reason:
        return None, str(reason)
    except Exception as error:
        traceback.print_exc()
        raise RequestError(500, f"The model failed on {task}: {type(error).__name__}: {error}") from error


def completion(request: dict, content: str | None, refusal: str | None = None, finish_reason: str = "stop") -> dict:
    """A chat completion with one choice; a token is a quarter of the characters, rounded up."""
    asked = -(-sum(len(str(message.get("content"))) for message in request["messages"]) // 4)
    answered = -(-len(content or refusal or "") // 4)
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {
        "id": f"chatcmpl-{os.getpid()}-{next(_numbers)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}],
        "usage": {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered},
    }


def build_app(models: Mapping[str, Model]) -> web.Application:
    """The web application that serves `models` by name."""

    async def complete(http: web.Request) -> web.Response:
        request = await read_json(http)
        task, inputs = read_call(request, models)
        return web.json_response(completion(request, *ask_model(models[request["model"]], task, inputs)))

    app = new_app(models)
    app.router.add_post("/v1/chat/completions", complete)
    return app


def new_app(models: Mapping[str, Model], **described: str) -> web.Application:
    """An application that lists `models`, each with what is `described` besides, and sends errors as OpenAI does."""
    about = {"object": "model", "created": 0, "owned_by": "knowtuning"} | described

    async def list_models(http: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name} | about for name in models]})

    app = web.Application(client_max_size=LARGEST_REQUEST, middlewares=[_errors_as_json])
    app.router.add_get("/v1/models", list_models)
    return app


@web.middleware
async def _errors_as_json(http: web.Request, handler: Callable) -> web.StreamResponse:
    try:
        return await handler(http)
    except RequestError as error:
        return web.json_response(error.body, status=error.status, headers=error.headers)


async def read_json(http: web.Request) -> Any:
    """The JSON in a request's body; raises `RequestError` (400) where there is none."""
    try:
        return json.loads(await http.read())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(400, f"The request is not JSON ({error}).") from None


# --- the process


async def start(app: web.Application, port: int = 0) -> tuple[web.AppRunner, str]:
    """Listen on the loopback interface (port 0: any free one); the runner, to be cleaned up, and the base URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"


def run_server(app: web.Application, port: int = 0) -> None:
    """Serve an application until standard input closes or the process is told to stop; prints the base URL only."""
    asyncio.run(_serve(app, port))


def serve(model: str, settings: str = "lab", port: int = 0) -> None:
    """Serve one local model."""
    run_server(build_app({model: load_model(model, settings)}), port)


async def _serve(app: web.Application, port: int) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner, base_url = await start(app, port)

    def wait_for_end_of_input() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    # a thread, because an event loop cannot wait for every kind of standard input
    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    print(base_url, flush=True)
    await stop.wait()
    await runner.cleanup()


@contextmanager
def local_server(model: str, settings: str = "lab") -> Iterator[str]:
    """Run a local model's server as a child process; yields its base URL and stops it at the end.

    Raises `TeacherError` with the child's own words when it does not start, or when it died and left calls unanswered.
    """
    code = f"from knowtuning.teacher.server import serve; serve({model!r}, {settings!r})"
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=environment,
            start_new_session=True,  # an interrupt of the notebook is for the notebook
        )

        try:
            ready, _, _ = select.select([process.stdout], [], [], READY_WITHIN)
            if not (base_url := process.stdout.readline().decode().strip() if ready else ""):
                _stop(process)
                raise TeacherError(f"The local server of {model} did not start: {_last_words(errors)}")
            try:
                yield base_url
            except TeacherError as error:
                if process.poll() is None:
                    raise
                raise TeacherError(f"The local server of {model} died during the run: {_last_words(errors)}") from error
        finally:
            _stop(process)


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
    return (errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]


@contextmanager
def open_teacher(
    model: str, directory: Path | str, settings: str = "lab", concurrency: int = 16, batch: bool = False, **options: Any
) -> Iterator[Teacher]:
    """The teacher of a run, with its record and quarantine in `directory`.

    A local model gets a server of its own unless OPENAI_BASE_URL names another; any other model is asked at the
    endpoint. `batch`: through the Batch API (half price, within a day). `options` are those of `Teacher`.

    >>> with open_teacher("english-rules", "runs/demo/teacher") as teacher:
    ...     replies = teacher.map(EXTRACT, rows)  # doctest: +SKIP
    """
    from knowtuning.teacher.batch import BatchTeacher
    from knowtuning.teacher.client import Teacher

    with ExitStack() as stack:
        if is_local(model) and not os.environ.get("OPENAI_BASE_URL"):
            if batch:
                raise TeacherError(
                    f"The local server of {model} has no Batch API: ask without it, nothing is paid here."
                )
            address = {"base_url": stack.enter_context(local_server(model, settings)), "api_key": "local"}
            options = address | LOCAL_PATIENCE | options
        teacher = (BatchTeacher if batch else Teacher)(model, directory, concurrency=concurrency, **options)
        yield stack.enter_context(teacher)

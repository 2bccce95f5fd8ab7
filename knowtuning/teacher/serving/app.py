"""The web application behind the local teacher: OpenAI's protocol, answered by Python functions."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from aiohttp import web

from knowtuning.teacher.serving.batches import Batches
from knowtuning.teacher.serving.chat import Chat, Intercept
from knowtuning.teacher.serving.completion import Model
from knowtuning.teacher.serving.endpoint import Endpoint
from knowtuning.teacher.serving.files import Files
from knowtuning.teacher.serving.limits import Limits
from knowtuning.teacher.serving.model_list import ModelList
from knowtuning.teacher.serving.options import ServerOptions
from knowtuning.teacher.serving.protocol import LARGEST_REQUEST, errors_as_json

_DEFAULTS = ServerOptions()


def build_app(
    models: Mapping[str, Model], options: ServerOptions = _DEFAULTS, intercept: Intercept | None = None
) -> web.Application:
    """The web application that serves `models` by name; `intercept`: see `Chat`."""
    app = web.Application(client_max_size=LARGEST_REQUEST, middlewares=[errors_as_json])
    endpoint = Endpoint(models, options)
    _add_chat(app, endpoint, options, intercept)
    _add_batches(app, endpoint, options)
    listing = ModelList(models, options.shutdown_date)
    app.router.add_get("/v1/models", listing.list)
    app.router.add_get("/v1/models/{name:.+}", listing.retrieve)
    return app


def _add_chat(app: web.Application, endpoint: Endpoint, options: ServerOptions, intercept: Intercept | None) -> None:
    limits = Limits(options.requests_per_minute, options.tokens_per_minute, options.capacity, options.burst)
    app.router.add_post("/v1/chat/completions", Chat(endpoint, limits, options, intercept).complete)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(limits.headers())

    async def close_log(app: web.Application) -> None:
        endpoint.log.close()

    if limits.headers():
        app.on_response_prepare.append(add_headers)
    app.on_cleanup.append(close_log)


def _add_batches(app: web.Application, endpoint: Endpoint, options: ServerOptions) -> None:
    """The Files and Batch APIs over a folder: the one that `options` names, or one made when needed and removed."""
    folder = options.state or Path(tempfile.gettempdir(), f"knowtuning-server-{secrets.token_hex(8)}")
    files = Files(folder / "files")
    batches = Batches(folder / "batches", endpoint, files, options)

    async def run_batches(app: web.Application) -> AsyncIterator[None]:
        batches.resume()
        yield
        await batches.stop()
        if options.state is None and folder.exists():
            shutil.rmtree(folder)

    app.cleanup_ctx.append(run_batches)
    app.router.add_post("/v1/files", files.create)
    app.router.add_get("/v1/files", files.list)
    app.router.add_get("/v1/files/{id}", files.retrieve)
    app.router.add_get("/v1/files/{id}/content", files.content)
    app.router.add_delete("/v1/files/{id}", files.delete)
    app.router.add_post("/v1/batches", batches.create)
    app.router.add_get("/v1/batches", batches.list)
    app.router.add_get("/v1/batches/{id}", batches.retrieve)
    app.router.add_post("/v1/batches/{id}/cancel", batches.cancel)

"""GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from knowtuning.teacher.serving.protocol import RequestError, json_response


class ModelList:
    """The models by name, with the date on which they will be shut down where one is announced."""

    def __init__(self, names: Iterable[str], shutdown_date: str | None = None) -> None:
        end = {"shutdown_date": shutdown_date} if shutdown_date else {}
        self._models = {
            name: {"id": name, "object": "model", "created": 0, "owned_by": "knowtuning"} | end for name in names
        }

    async def list(self, http: web.Request) -> web.Response:
        """All of them."""
        return json_response({"object": "list", "data": list(self._models.values())})

    async def retrieve(self, http: web.Request) -> web.Response:
        """One of them."""
        name = http.match_info["name"]
        if name not in self._models:
            raise RequestError(404, f"The model {name!r} does not exist here.", "model", "model_not_found")
        return json_response(self._models[name])

"""The Files API: uploads for batches and what batches write, kept in a folder."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

from aiohttp import BodyPartReader, web

from knowtuning.files import read_json, write_json
from knowtuning.teacher.serving.protocol import RequestError, json_response, page

LARGEST_FILE = 200 * 2**20  # bytes, OpenAI's limit for the input of a batch


class Files:
    """Files by id: `ID.json` is the object that describes one, `ID` its content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        kept = [read_json(path) for path in folder.glob("file-*.json")]
        self._objects = {each["id"]: each for each in sorted(kept, key=lambda each: each["created_at"])}

    def add(self, filename: str, purpose: str, content: bytes) -> dict:
        """Keep a file; its object."""
        name = f"file-{secrets.token_hex(12)}"
        described = {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "expires_at": None,
            "filename": filename,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
        }
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / name).write_bytes(content)
        write_json(self._folder / f"{name}.json", described)
        self._objects[name] = described
        return described

    def add_lines(self, filename: str, lines: list[dict]) -> str | None:
        """Keep what a batch has written; the file's id, None for no lines."""
        if not lines:
            return None
        return self.add(filename, "batch_output", "".join(json.dumps(line) + "\n" for line in lines).encode())["id"]

    def get(self, name: str) -> dict:
        """A file's object; raises `RequestError` (404) when there is none."""
        if name not in self._objects:
            raise RequestError(404, f"No such File object: {name}", "id")
        return self._objects[name]

    def path(self, name: str) -> Path:
        """Where a file's content lies."""
        return self._folder / self.get(name)["id"]

    async def create(self, http: web.Request) -> web.Response:
        """POST /v1/files, a form with `purpose` and `file`."""
        purpose, filename, content = await _read_form(http)
        if purpose != "batch":
            raise RequestError(400, f"{purpose!r} is not a purpose of files here: use 'batch'.", "purpose")
        if content is None:
            raise RequestError(400, "The form holds no file.", "file")
        if len(content) > LARGEST_FILE:
            size = f"{LARGEST_FILE // 2**20} MB"
            raise RequestError(413, f"The file is larger than {size}, the limit of a batch.", "file", "file_too_large")
        return json_response(self.add(filename, purpose, content))

    async def list(self, http: web.Request) -> web.Response:
        """GET /v1/files, newest first."""
        newest_first = list(reversed(self._objects.values()))
        return json_response(page(newest_first, http.query.get("after"), http.query.get("limit")))

    async def retrieve(self, http: web.Request) -> web.Response:
        """GET /v1/files/{id}."""
        return json_response(self.get(http.match_info["id"]))

    async def content(self, http: web.Request) -> web.StreamResponse:
        """GET /v1/files/{id}/content."""
        return web.FileResponse(self.path(http.match_info["id"]), headers={"Content-Type": "application/octet-stream"})

    async def delete(self, http: web.Request) -> web.Response:
        """DELETE /v1/files/{id}."""
        path = self.path(http.match_info["id"])
        path.with_name(f"{path.name}.json").unlink()
        path.unlink()
        del self._objects[path.name]
        return json_response({"id": path.name, "object": "file", "deleted": True})


async def _read_form(http: web.Request) -> tuple[str | None, str, bytes | None]:
    """Purpose, file name and content; a file beyond the limit is read to its end and kept one byte too long."""
    if not http.content_type.startswith("multipart/"):
        raise RequestError(400, "A file comes as multipart/form-data.")
    purpose, filename, content = None, "upload", None
    async for part in await http.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        if part.name == "purpose":
            purpose = await part.text()
        elif part.name == "file":
            filename, kept = part.filename or filename, bytearray()
            while chunk := await part.read_chunk(2**16):
                kept += chunk[: LARGEST_FILE + 1 - len(kept)]
            content = bytes(kept)
    return purpose, filename, content

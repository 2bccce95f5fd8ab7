"""A stand-in for the Hugging Face hub: repositories of data sets in memory, behind the paths that its client calls."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from contextlib import contextmanager

from aiohttp import web


class Hub:
    """`commits` holds the files of each commit, `heads` the newest commit of each repository, `seen` all requests."""

    def __init__(self) -> None:
        self.commits: dict[tuple[str, str], dict[str, bytes]] = {}
        self.heads: dict[str, str] = {}
        self.gated: set[str] = set()
        self.seen: list[tuple[str, str, str, bytes]] = []
        self.url = ""

    def add(self, repo: str, files: dict[str, bytes]) -> str:
        """Make a commit that holds `files` alone and return its hash."""
        commit = hashlib.sha1(repr((repo, self.heads.get(repo), sorted(files.items()))).encode()).hexdigest()
        self.commits[repo, commit] = files
        self.heads[repo] = commit
        return commit

    def asked(self, part: str) -> list[str]:
        """The paths of all requests so far that hold `part`."""
        return [path for _, path, _, _ in self.seen if part in path]

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._record])
        repo, of = "/{owner}/{name}", "/api/datasets/{owner}/{name}"
        app.router.add_post("/api/validate-yaml", self._validate)
        app.router.add_post("/api/repos/create", self._create)
        app.router.add_post(of + "/preupload/{revision}", self._preupload)
        app.router.add_post(of + "/commit/{revision}", self._commit)
        app.router.add_get(of, self._info)
        app.router.add_get(of + "/revision/{revision}", self._info)
        app.router.add_get(of + "/tree/{revision}", self._tree)
        app.router.add_get(of + "/tree/{revision}/{path:.*}", self._tree)
        app.router.add_post(of + "/paths-info/{revision}", self._paths_info)
        app.router.add_get("/datasets" + repo + "/resolve/{revision}/{path:.*}", self._resolve)
        return app

    @web.middleware
    async def _record(self, request: web.Request, handler):
        token = request.headers.get("Authorization", "")
        self.seen.append((request.method, request.path, token, await request.read()))
        return await handler(request)

    def _files(self, request: web.Request) -> tuple[str, str, dict[str, bytes]]:
        repo = f"{request.match_info['owner']}/{request.match_info['name']}"
        if repo in self.gated and "Authorization" not in request.headers:
            raise web.HTTPUnauthorized(headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if repo not in self.heads:
            raise web.HTTPNotFound(headers={"X-Error-Code": "RepoNotFound"})
        revision = request.match_info.get("revision", "main")
        commit = self.heads[repo] if revision == "main" else revision
        if (repo, commit) not in self.commits:
            raise web.HTTPNotFound(headers={"X-Error-Code": "RevisionNotFound"})
        return repo, commit, self.commits[repo, commit]

    async def _validate(self, request: web.Request):
        return _json({"errors": [], "warnings": []})

    async def _create(self, request: web.Request):
        body = await request.json()
        repo = f"{body['organization']}/{body['name']}" if body.get("organization") else body["name"]
        there = {"url": f"{self.url}/datasets/{repo}", "name": repo}
        if repo in self.heads:
            return _json(there | {"error": "You already created this dataset repo"}, status=409)
        self.add(repo, {})
        return _json(there)

    async def _preupload(self, request: web.Request):
        files = (await request.json())["files"]
        modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
        return _json({"files": modes})

    async def _commit(self, request: web.Request):
        repo, _, files = self._files(request)
        entries = [json.loads(line) for line in (await request.read()).splitlines()]
        files = files | {
            entry["value"]["path"]: base64.b64decode(entry["value"]["content"])
            for entry in entries
            if entry["key"] == "file"
        }
        commit = self.add(repo, files)
        url = f"{self.url}/datasets/{repo}/commit/{commit}"
        return _json({"commitUrl": url, "commitOid": commit, "success": True})

    async def _info(self, request: web.Request):
        repo, commit, files = self._files(request)
        siblings = [{"rfilename": name} for name in files]
        return _json({"id": repo, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0})

    async def _tree(self, request: web.Request):
        _, _, files = self._files(request)
        folder = request.match_info.get("path", "").strip("/")
        inside = [name for name in files if not folder or name.startswith(folder + "/")]
        if folder and not inside:
            raise web.HTTPNotFound(headers={"X-Error-Code": "EntryNotFound"})
        if request.query.get("recursive", "false").lower() == "true":
            return _json(_folders(inside, folder) + [_entry(name, files[name]) for name in inside])
        here = [name for name in inside if "/" not in name.removeprefix(folder).strip("/")]
        folders = [
            entry for entry in _folders(inside, folder) if "/" not in entry["path"].removeprefix(folder).strip("/")
        ]
        return _json(folders + [_entry(name, files[name]) for name in here])

    async def _paths_info(self, request: web.Request):
        _, _, files = self._files(request)
        if request.content_type == "application/json":
            paths = (await request.json())["paths"]
        else:
            paths = (await request.post()).getall("paths")
        found = [_entry(path, files[path]) for path in paths if path in files]
        return _json(found + [entry for entry in _folders(list(files), "") if entry["path"] in paths])

    async def _resolve(self, request: web.Request):
        _, commit, files = self._files(request)
        path = request.match_info["path"]
        if path not in files:
            raise web.HTTPNotFound(headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        headers = {"ETag": f'"{_oid(files[path])}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        return web.Response(body=files[path], headers=headers)


@contextmanager
def serve():
    """Yield a running `Hub`; it listens on 127.0.0.1 at a port of the system's choice, in a thread of its own."""
    hub, loop, ready = Hub(), asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(hub.application())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        return runner

    def run() -> None:
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield hub
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def _json(value, status: int = 200) -> web.Response:
    return web.json_response(value, status=status)


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict:
    return {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}


def _folders(names: list[str], under: str) -> list[dict]:
    folders = {"/".join(name.split("/")[:depth]) for name in names for depth in range(1, name.count("/") + 1)}
    return [{"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(folders) if path != under]

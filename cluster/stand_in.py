"""A stand-in for Kubernetes' API: takes the jobs that Snakemake makes, checks them, and runs them as processes.

What it answers are the requests that the executor makes, and no others. A pod is a process with the environment that
its manifest gives it and nothing else, begun in a new folder; volumes are folders of this machine, mounted where they
are. No scheduler, no image, no limits: that a manifest is accepted by a cluster is for a cluster to say.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

JOB = re.compile(r"/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/jobs(?:/(?P<name>[^/]+))?(?:/status)?$")
SECRET = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/secrets(?:/(?P<name>[^/]+))?$")
PODS = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods(?:/(?P<name>[^/]+?))?(?P<log>/log)?$")


class StandIn(ThreadingHTTPServer):
    """The server; `jobs` holds every manifest it got, by name, and `refused` what `check` said against one.

    `check`: raises on a manifest that is not valid. `folder`: where pods begin, and where their logs lie.
    """

    daemon_threads = True

    def __init__(self, check: Callable[[dict], None], folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.check, self.folder = check, folder
        self.jobs: dict[str, dict] = {}
        self.refused: list[str] = []
        self.secrets: dict[str, dict] = {}
        self.pods: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> StandIn:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        for name in self.pods:
            self.kill(name)

    def configuration(self) -> dict[str, Any]:
        """A kubeconfig that leads here."""
        name = "stand-in"
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}],
            "users": [{"name": name, "user": {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }

    def start(self, job: dict) -> None:
        """Run the container of a job as a process."""
        name = job["metadata"]["name"]
        self.jobs[name] = job
        [container] = job["spec"]["template"]["spec"]["containers"]
        home = self.folder / name
        home.mkdir(parents=True)
        with open(home / "log", "w", encoding="utf-8") as log:
            self.pods[name] = subprocess.Popen(
                [*container["command"], *container["args"]],
                env={"PATH": os.environ["PATH"], "HOME": str(home), **self._environment(container)},
                cwd=home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End the processes of a pod at once."""
        if self.pods[name].poll() is None:
            os.killpg(self.pods[name].pid, signal.SIGKILL)
            self.pods[name].wait()

    def _environment(self, container: dict) -> dict[str, str]:
        found = {}
        for variable in container.get("env", []):
            reference = variable["valueFrom"]["secretKeyRef"]
            value = self.secrets[reference["name"]]["data"][reference["key"]]
            found[variable["name"]] = base64.b64decode(value).decode()
        return found


class _Handler(BaseHTTPRequestHandler):
    """GET, POST and DELETE of jobs, their pods and secrets."""

    server: StandIn

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if (match := JOB.match(path)) and match["name"] in self.server.jobs:
            self._answer(200, self._job(match["name"]))
        elif (match := PODS.match(path)) and match["log"]:
            # kubelet keeps the log before the last restart, and these pods have never been restarted
            if "previous=True" in query:
                return self._answer(400, "previous terminated container not found")
            self._answer(200, (self.server.folder / match["name"] / "log").read_text(encoding="utf-8"))
        elif PODS.match(path):
            name = re.search(r"labelSelector=job-name%3D([^&]+)", query)[1]
            pods = [self._pod(name)] if name in self.server.pods else []
            self._answer(200, {"kind": "PodList", "apiVersion": "v1", "items": pods})
        else:
            self._answer(404, {"kind": "Status", "status": "Failure", "code": 404})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = "Job" if JOB.match(self.path) else "Secret"
        try:
            self.server.check({"apiVersion": "batch/v1" if kind == "Job" else "v1", "kind": kind, **body})
        except Exception as error:
            self.server.refused.append(str(error))
            return self._answer(422, {"kind": "Status", "status": "Failure", "message": str(error)})
        if kind == "Job":
            self.server.start(body)
        else:
            self.server.secrets[body["metadata"]["name"]] = body
        return self._answer(201, body)

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match = JOB.match(self.path.partition("?")[0])
        if match and match["name"] in self.server.pods:
            self.server.kill(match["name"])
        self._answer(200, {"kind": "Status", "status": "Success"})

    def _job(self, name: str) -> dict:
        code = self.server.pods[name].poll()
        state = "active" if code is None else "failed" if code else "succeeded"
        return {**self.server.jobs[name], "status": {state: 1}}

    def _pod(self, name: str) -> dict:
        code = self.server.pods[name].poll()
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        about = {"name": "snakemake", "image": "", "imageID": "", "ready": code is None, "restartCount": 0}
        return {"metadata": {"name": name}, "status": {"containerStatuses": [{**about, "state": state}]}}

    def _answer(self, code: int, body: dict | str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass

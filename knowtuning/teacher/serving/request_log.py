"""What was served and how it ended, one JSON line per request, so that a test can count what was paid."""

from __future__ import annotations

import json
import time
from pathlib import Path


class RequestLog:
    """Appends to `path` and flushes line by line; without a path nothing is written.

    A line: `key` (see `call_key`; null when nothing was read), `task`, `outcome` and `time` (Unix seconds). Outcomes:
    "reply"; "batch" for a reply in a batch's output; a fault of `FAULT_KINDS` or "poison"; "abandoned" when the client
    had gone before its reply; "cancelled" when the server stopped before it; the HTTP status ("429", "400") of any
    other error.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.kept = path is not None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)

    def write(self, outcome: str, key: str | None = None, task: str | None = None) -> None:
        """Add one request."""
        if self.kept:
            line = {"key": key, "task": task, "outcome": outcome, "time": round(time.time(), 6)}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self.kept:
            self._file.close()

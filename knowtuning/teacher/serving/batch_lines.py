"""One request of a batch, served: its line in the output or the error file, and what the log says about it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from knowtuning.teacher.serving.broken import BROKEN, stormy
from knowtuning.teacher.serving.call import Call
from knowtuning.teacher.serving.endpoint import Endpoint
from knowtuning.teacher.serving.protocol import RequestError

_UNANSWERED = ("reset", "stall", "cut_body")  # no connection can break in a batch: these get no response at all


@dataclass(frozen=True)
class Line:
    """A line of the output file, or, where it is not `good`, of the error file; `outcome` is None if it was not run."""

    content: dict
    good: bool
    outcome: str | None = None
    call: Call | None = None

    @property
    def usage(self) -> dict[str, int]:
        """The tokens that it cost."""
        return self.content["response"]["body"]["usage"] if self.good else {}


def run_request(endpoint: Endpoint, request: dict) -> Line:
    """Serve one request of a batch, with the faults of the endpoint."""
    call = fault = None
    try:
        call = endpoint.read(request["body"])
        fault = endpoint.faults.draw(call)
        if fault in _UNANSWERED:
            message = "The request could not be executed because of an internal error."
            return Line(_line(request, error={"code": "server_error", "message": message}), False, fault, call)
        if fault == "storm":
            raise stormy()
        if fault in BROKEN:
            raise RequestError(500, "The server had an error while processing your request. Sorry about that!")
        body = endpoint.answer(call, fault)
    except RequestError as error:
        return Line(_line(request, error.status, error.body), False, fault or str(error.status), call)
    return Line(_line(request, 200, body), True, fault or "batch", call)


def undone(request: dict, status: str) -> Line:
    """The line of a request that a batch did not come to before it was "expired" or "cancelled"."""
    why = "the completion window expired" if status == "expired" else "the batch was cancelled"
    error = {"code": f"batch_{status}", "message": f"This request could not be executed before {why}."}
    return Line(_line(request, error=error), False)


def _line(request: dict, status: int | None = None, body: dict | None = None, error: dict | None = None) -> dict:
    response = {"status_code": status, "request_id": f"req_{secrets.token_hex(12)}", "body": body} if status else None
    return {
        "id": f"batch_req_{secrets.token_hex(12)}",
        "custom_id": request["custom_id"],
        "response": response,
        "error": error,
    }

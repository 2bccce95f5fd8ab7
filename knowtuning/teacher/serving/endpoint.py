"""One endpoint: what it knows, how it speaks, and how a call becomes a completion, online and in a batch alike."""

from __future__ import annotations

from collections.abc import Mapping

from knowtuning.teacher.serving.call import Call, read_call
from knowtuning.teacher.serving.completion import Model, reply_text
from knowtuning.teacher.serving.dialects import DIALECTS, in_prose
from knowtuning.teacher.serving.faults import Faults
from knowtuning.teacher.serving.options import ServerOptions
from knowtuning.teacher.serving.request_log import RequestLog
from knowtuning.teacher.serving.spoiled import spoil


class Endpoint:
    """The `models` by name behind one dialect, with the faults and the log of its server."""

    def __init__(self, models: Mapping[str, Model], options: ServerOptions) -> None:
        self.models = models
        self.faults = Faults(options.faults, options.fault_kinds, options.fault_seed)
        self.log = RequestLog(options.log)
        self._dialect = DIALECTS[options.dialect]

    def read(self, request: dict) -> Call:
        """What a request asks; raises `RequestError` for what the dialect or nobody understands."""
        self._dialect.check(request)
        return read_call(request, self.models)

    def answer(self, call: Call, fault: str | None = None) -> dict:
        """The completion of a call, spoilt by `fault` where it is one that a completion can carry."""
        text, refusal = reply_text(self.models[call.model], call)
        return spoil(fault, call, text, refusal, in_prose if self._dialect.prose else str)

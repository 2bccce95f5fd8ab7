"""Snakemake with a log handler of ours: what it plans, starts and finishes, as JSON lines for the walk to follow.

python -m knowtuning.events EVENTS.jsonl [Snakemake's own arguments]
"""

from __future__ import annotations

import json
import sys
from logging import LogRecord

from snakemake.cli import main
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry


class LogHandler(LogHandlerBase):
    """Snakemake's logger plugin: one line for each event that the walk shows."""

    writes_to_stream = writes_to_file = needs_rulegraph = False
    has_filter = has_formatter = True

    def emit(self, record: LogRecord) -> None:
        told = {
            LogEvent.RUN_INFO: lambda: {"planned": record.stats},
            LogEvent.JOB_INFO: lambda: {"started": record.jobid, "rule": record.rule_name},
            LogEvent.JOB_FINISHED: lambda: {"finished": record.job_id},
            LogEvent.JOB_ERROR: lambda: {"failed": record.jobid, "logs": [str(path) for path in record.log]},
        }
        if tell := told.get(getattr(record, "event", None)):
            with open(sys.argv[1], "a", encoding="utf-8") as file:
                file.write(json.dumps(tell()) + "\n")


if __name__ == "__main__":
    LoggerPluginRegistry().register_plugin("snakemake_logger_plugin_knowtuning", sys.modules[__name__])
    sys.exit(main([*sys.argv[2:], "--logger", "knowtuning"]))

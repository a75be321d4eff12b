"""Structured logs: one line an event, JSON or for eyes, on standard error."""

from __future__ import annotations

import sys
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import Processor

LogFormat = Literal["json", "text"]


def make_log(log_format: LogFormat = "json", stream: TextIO | None = None) -> Any:
    """A logger of its own; nothing of the process is configured."""
    logger = structlog.WriteLogger(stream or sys.stderr)
    return structlog.wrap_logger(logger, [*_common(), *_rendered(log_format)], structlog.BoundLogger)


def uvicorn_logs(log_format: LogFormat = "json") -> dict[str, Any]:
    """uvicorn's own lines in the same form, for its `log_config`. Requests are logged by the app."""
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": _common(),
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendered(log_format)],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structured": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "loggers": {"uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False}},
    }


def _common() -> list[Processor]:
    return [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]


def _rendered(log_format: LogFormat) -> list[Processor]:
    if log_format == "text":
        return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    # What variables held is a user's.
    traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(traceback), structlog.processors.JSONRenderer()]

"""A batch's file read line by line: what is bad is answered at once, and loses no other line."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from headrace.api.batches.answer import failed
from headrace.api.batches.batch_store import BatchStore
from headrace.api.batches.limits import BatchLimits
from headrace.api.batches.line import Line, RawLine, custom_id_of, parse_line, raw_lines
from headrace.api.batches.records import BatchRecord, LineRecord, LineState, new_id
from headrace.api.errors import ApiError, api_error, of_validation
from headrace.api.schemas import ImageRequest
from headrace.errors import HeadraceError, RequestError

Check = Callable[[ImageRequest], object]
AT_ONCE = 200
# What only makes sense for somebody who waits.
_FOR_CALLERS = {"stream": "an answer in a file is no stream", "timeout_ms": "a batch has a completion_window instead"}


def validate(path: Path, batch: BatchRecord, store: BatchStore, limits: BatchLimits, check: Check) -> None:
    """Reads all lines into the store and has the batch go on: to work, or to `failed` where it has none or too many.

    `check` raises `RequestError` or `ApiError` for what the served model does not make.
    """
    store.clear_lines(batch.id)
    count = good = 0
    with path.open("rb") as file:
        lines = raw_lines(file, limits.line_bytes)
        while some := list(islice(lines, AT_ONCE)):
            count += len(some)
            if count > limits.lines:
                problem = f"the file has more than {limits.lines} lines. Split it and submit several batches"
                store.refuse(batch.id, _problem("too_many_lines", problem, None, None))
                return
            good += _add(batch, store, limits, check, some)
            if store.get(batch.id).status != "validating":
                return
    if not count:
        store.refuse(
            batch.id, _problem("empty_file", "the file has no lines. Write one JSON object a line", None, None)
        )
    elif not good:
        store.finish(batch.id, "failed")
    else:
        store.begin(batch.id)


def checked(text: bytes, endpoint: str, check: Check) -> tuple[Line, ImageRequest]:
    """What a line asks for. Raises `ApiError` and `RequestError`."""
    line = parse_line(text, endpoint)
    for name, reason in _FOR_CALLERS.items():
        if line.body.get(name):
            raise RequestError(name, f"{name} cannot be given in a batch: {reason}", "Leave it out")
    try:
        asked = ImageRequest.model_validate(line.body)
    except ValidationError as error:
        raise of_validation(error.errors()) from None
    check(asked)
    return line, asked


def _add(batch: BatchRecord, store: BatchStore, limits: BatchLimits, check: Check, some: list[RawLine]) -> int:
    seen: set[str] = set()
    records, problems = [], []
    for raw in some:
        record = LineRecord(
            batch.id, raw.number, new_id("batch_req_"), None, raw.offset, raw.length, secrets.randbelow(2**32)
        )
        try:
            custom_id = _custom_id(raw, batch, store, limits, check, seen)
            records.append(replace(record, custom_id=custom_id))
        except (HeadraceError, ApiError) as error:
            said = error if isinstance(error, ApiError) else api_error(error)
            named = custom_id_of(raw.text) if raw.text is not None else None
            # The answer tells the name; the column, in which names are unique, does not.
            records.append(replace(failed(replace(record, custom_id=named), said), custom_id=None))
            problems.append(_problem(said.code, said.message, said.param, raw.number))
    store.add_lines(batch.id, records, problems)
    return sum(record.state == LineState.WAITING for record in records)


def _custom_id(
    raw: RawLine, batch: BatchRecord, store: BatchStore, limits: BatchLimits, check: Check, seen: set[str]
) -> str | None:
    """The name of a good line. Raises what is wrong with a bad one."""
    if raw.text is None:
        raise RequestError("line", f"the line is longer than {limits.line_bytes} bytes", "Shorten its prompts")
    line, _ = checked(raw.text, batch.endpoint, check)
    if line.custom_id is not None:
        if line.custom_id in seen or store.has_custom_id(batch.id, line.custom_id):
            problem = f"another line has the custom_id {line.custom_id[:60]!r}"
            raise RequestError("custom_id", problem, "Give each line one of its own")
        seen.add(line.custom_id)
    return line.custom_id


def _problem(code: str, message: str, param: str | None, line: int | None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}


def text_of(path: Path, line: LineRecord) -> bytes:
    """A line's bytes in its file."""
    with path.open("rb") as file:
        file.seek(line.offset)
        return file.read(line.length)


def pieces(path: Path, size: int = 1 << 16) -> Iterator[bytes]:
    """A file's bytes, some at a time."""
    with path.open("rb") as file:
        while some := file.read(size):
            yield some

"""What the output and error files hold of a line, in OpenAI's shape. Pictures stay files until somebody reads them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from headrace.api.batches.records import LineRecord, LineState
from headrace.api.errors import ApiError
from headrace.errors import OutputError
from headrace.files import write_file

_FILE = "file"  # stands in `b64_json` for the name of a picture


def answered(line: LineRecord, body: dict[str, Any], stored: int) -> LineRecord:
    """A line whose pictures are there: `body` is the endpoint's answer, with `in_file` in place of base64."""
    record = _with(line, LineState.ANSWERED, 200, body)
    size = record.bytes
    for picture in body["data"]:
        if isinstance(picture.get("b64_json"), dict):
            size += _base64_size(picture["b64_json"]["bytes"]) + 2 - len(json.dumps(picture["b64_json"]))
    return replace(record, bytes=size, stored=stored)


def failed(line: LineRecord, error: ApiError) -> LineRecord:
    """A line that has no pictures."""
    return _with(line, LineState.FAILED, error.status, error.body())


def in_file(name: str, size: int) -> dict[str, Any]:
    """What stands for the base64 of a picture of `size` bytes."""
    return {_FILE: name, "bytes": size}


def written_out(line: LineRecord, pictures: Path) -> bytes:
    """The line as it is read: one JSON object and a line feed, exactly `line.bytes` bytes."""
    assert line.answer is not None
    if line.state == LineState.ANSWERED:
        values = json.loads(line.answer)
        for picture in values["response"]["body"]["data"]:
            if isinstance(picture.get("b64_json"), dict):
                data = (pictures / picture["b64_json"][_FILE]).read_bytes()
                picture["b64_json"] = base64.b64encode(data).decode("ascii")
        return json.dumps(values).encode("ascii") + b"\n"
    return line.answer.encode() + b"\n"


def all_written_out(lines: Iterator[LineRecord], pictures: Path) -> Iterator[bytes]:
    """One line in memory at a time."""
    for line in lines:
        yield written_out(line, pictures)


def keep_pictures(folder: Path, files: Sequence[tuple[str, bytes]]) -> None:
    """Writes (name, data) into a folder, each safe on disk when this returns. Raises `OutputError`."""
    for name, data in files:
        write_file(folder / name, partial(_write, data=data))
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)  # the names, too
        finally:
            os.close(handle)
    except OSError as error:
        raise OutputError(f"{str(folder)!r} cannot be written: {error}", "Free some space") from None


def _write(path: Path, *, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _with(line: LineRecord, state: LineState, status: int, body: dict[str, Any]) -> LineRecord:
    response = {"status_code": status, "request_id": line.id, "body": body}
    answer = json.dumps({"id": line.id, "custom_id": line.custom_id, "response": response, "error": None})
    return replace(line, state=state, answer=answer, bytes=len(answer) + 1)


def _base64_size(size: int) -> int:
    return 4 * -(-size // 3)

"""One line of a batch: found in the file, read, and answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from headrace.errors import RequestError

MAX_CUSTOM_ID = 512
ENVELOPE = {"custom_id", "method", "url", "body"}


@dataclass(frozen=True)
class RawLine:
    """Where a line that is not blank stands: `number` from 1, `offset` and `length` in bytes; `text` None: too long."""

    number: int
    offset: int
    length: int
    text: bytes | None


@dataclass(frozen=True)
class Line:
    """What a line says: a body as the endpoint's, and the name that its answer carries."""

    custom_id: str | None
    body: dict[str, Any]


def raw_lines(file: BinaryIO, limit: int) -> Iterator[RawLine]:
    """The lines of a file, one in memory at a time, and of one that is longer than `limit` bytes only its place."""
    number = offset = 0
    while text := file.readline(limit + 1):
        number += 1
        length = len(text)
        too_long = length > limit and not text.endswith(b"\n")
        while too_long and text and not text.endswith(b"\n"):
            text = file.readline(limit + 1)
            length += len(text)
        if too_long or text.strip():
            yield RawLine(number, offset, length, None if too_long else text)
        offset += length


def custom_id_of(text: bytes) -> str | None:
    """The name that a line gives itself, as far as it can be read: a bad line's answer carries it too."""
    try:
        found = _loaded(text).get("custom_id")
    except (RequestError, AttributeError):
        return None
    return found if isinstance(found, str) and len(found) <= MAX_CUSTOM_ID and _encodable(found) else None


def parse_line(text: bytes, endpoint: str) -> Line:
    """A line in the shape of OpenAI's batches, or the endpoint's body itself with or without a `custom_id`.

    Raises `RequestError` with the field.
    """
    values = _loaded(text)
    if not isinstance(values, dict):
        problem = f"a line is a JSON object, not {type(values).__name__}"
        raise RequestError("line", problem, 'Write {"custom_id": "a", "body": {"prompt": "..."}}')
    custom_id = values.get("custom_id")
    if custom_id is not None and not (isinstance(custom_id, str) and 1 <= len(custom_id) <= MAX_CUSTOM_ID):
        remedy = f"Give a text of 1 to {MAX_CUSTOM_ID} characters, or leave it out"
        raise RequestError("custom_id", "custom_id is no text, empty or too long", remedy)
    if custom_id is not None and not _encodable(custom_id):
        raise RequestError("custom_id", "custom_id holds half a character", "Write whole characters")
    if "body" not in values:
        return Line(custom_id, {name: value for name, value in values.items() if name != "custom_id"})
    _check_envelope(values, endpoint)
    return Line(custom_id, values["body"])


def _check_envelope(values: dict[str, Any], endpoint: str) -> None:
    unknown = sorted(set(values) - ENVELOPE)
    if unknown:
        raise RequestError(unknown[0][:64], f"{unknown[0][:64]!r} is unknown", f"Known: {', '.join(sorted(ENVELOPE))}")
    if values.get("method", "POST") != "POST":
        raise RequestError("method", f"method is {str(values['method'])[:20]!r}", 'Write "POST"')
    if values.get("url", endpoint) != endpoint:
        problem = f"url is {str(values['url'])[:80]!r}, and the batch is for {endpoint!r}"
        raise RequestError("url", problem, "Put lines of another endpoint into a batch of their own")
    if not isinstance(values["body"], dict):
        raise RequestError("body", f"body is a JSON object, not {type(values['body']).__name__}", "Write {...}")


def _loaded(text: bytes) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise RequestError("line", f"the line is not UTF-8: byte {error.start + 1}", "Save it as UTF-8") from None
    except RecursionError:
        raise RequestError("line", "the line is nested too deeply", "Write a flat object") from None
    except ValueError as error:
        raise RequestError("line", f"the line is not JSON: {error}", "Write one JSON object a line") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)

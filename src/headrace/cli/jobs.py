"""What `headrace generate` is asked to make: one job a picture, read lazily from options or JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from headrace.errors import HeadraceError, RequestError
from headrace.request import Request

MAX_PICTURES = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OF_THE_JOB = ("n", "name")


@dataclass(frozen=True)
class Job:
    """One picture to make. `name` begins its file name; `line` asked for it (None: the command line).

    It is picture `place`, from 0, of the n that were asked for together; `request` has the seed of the first plus that.
    """

    request: Request
    name: str | None = None
    line: int | None = None
    place: int = 0

    def of_several(self, pictures: int) -> tuple[Request, int]:
        """The request that makes it where a request makes so many pictures, and which of these it is.

        n pictures then take ceil(n / pictures) requests, with seeds seed, seed + 1, ...
        """
        request, picture = divmod(self.place, pictures)
        first = self.request.seed - self.place
        return self.request.model_copy(update={"seed": first + request}), picture


@dataclass(frozen=True)
class BadLine:
    """A line that asks for nothing that could be made, and why."""

    line: int
    error: HeadraceError


def expand(values: Mapping[str, Any], line: int | None = None) -> Iterator[Job]:
    """The jobs of one request's fields: `n` pictures with seeds seed, seed + 1, ...

    Checked at once, before the first job is taken. Raises `RequestError` naming the field.
    """
    fields = {key: value for key, value in values.items() if key not in _OF_THE_JOB}
    count, name = values.get("n", 1), values.get("name")
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_PICTURES:
        raise RequestError("n", f"n: {count!r} is not accepted", f"n is how many pictures, 1 to {MAX_PICTURES}")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise RequestError(
            "name", f"name: {str(name)[:60]!r} is not accepted", "Use up to 100 of A-Z, a-z, 0-9, '.', '_', '-'"
        )
    first = Request.parse(fields)
    Request.parse({**fields, "seed": first.seed + count - 1})  # the last seed must be in range as well
    return (Job(first.model_copy(update={"seed": first.seed + index}), name, line, index) for index in range(count))


def read_jobs(lines: Iterable[bytes], defaults: Mapping[str, Any] | None = None) -> Iterator[Job | BadLine]:
    """Jobs of JSON lines, lazily; blank ones are passed over. `defaults`: fields for what a line leaves out."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield from expand({**(defaults or {}), **_parse(line)}, number)
        except HeadraceError as error:
            yield BadLine(number, error)


def _parse(line: bytes) -> dict[str, Any]:
    remedy = 'A line is one JSON object, such as {"prompt": "red apple", "steps": 20, "seed": 7}'
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError("request", f"not JSON: {error}", remedy) from None
    if not isinstance(values, dict):
        raise RequestError("request", f"{_shorten(values)} is not a request", remedy)
    return values


def _shorten(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def open_lines(source: str) -> BinaryIO:
    """A file of JSON lines, or standard input for '-'. Raises `RequestError` where it cannot be read."""
    try:
        if source == "-":
            # Not sys.stdin: a thread that waits on that keeps the interpreter from ending cleanly.
            return open(0, "rb", closefd=False)
        return Path(source).open("rb")
    except OSError as error:
        raise RequestError(
            "from",
            f"{source!r} cannot be read: {error.strerror or error}",
            "Give a file of JSON lines, or -",
        ) from None


def count_pictures(source: str) -> int | None:
    """How many pictures a file of JSON lines asks for; None where that is not known before its end (a pipe)."""
    if source == "-" or not Path(source).is_file():
        return None
    with open_lines(source) as lines:
        return sum(_count(line) for line in lines if line.strip())


def _count(line: bytes) -> int:
    try:
        count = _parse(line).get("n", 1)
    except RequestError:
        return 0
    return count if isinstance(count, int) and 0 < count <= MAX_PICTURES else 0

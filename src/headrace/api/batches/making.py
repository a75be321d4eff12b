"""One line of a batch made: its pictures into files, its answer into the database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from headrace.api.answering import Answering, Done, answer_body
from headrace.api.batches.answer import answered, failed, in_file, keep_pictures
from headrace.api.batches.records import BatchRecord, LineRecord
from headrace.api.context import ApiContext
from headrace.api.errors import ApiError, api_error
from headrace.api.flight import Flight
from headrace.api.generation import Generation, generation
from headrace.api.note import Note
from headrace.api.schemas import ImageRequest
from headrace.errors import BusyError, HeadraceError, NotReadyError, PoisonError, ServiceError
from headrace.service import Accepted, Failed, Finished

PRIORITY = -100  # whoever waits for an answer goes first


class PutOffError(Exception):
    """Nothing is wrong with the line: it is to be tried again after `seconds`."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds


def asked_for(body: ImageRequest, line: LineRecord, context: ApiContext) -> Generation:
    """What a line's body means here: behind everyone who waits, with the seed that the line was given.

    Raises `RequestError` and `ApiError`, and `PutOffError` while nothing is served yet.
    """
    seed = line.seed if body.seed is None else body.seed
    quiet = body.model_copy(update={"seed": seed, "priority": PRIORITY, "timeout_ms": None, "stream": None})
    try:
        return generation(quiet, context.service.model, context.settings)
    except NotReadyError as error:
        raise PutOffError(1.0, str(error)) from None


async def make(
    line: LineRecord, asked: Generation, batch: BatchRecord, context: ApiContext, folder: Path
) -> tuple[LineRecord, int]:
    """The line with its answer, its pictures safe in `folder`, and the rows that they took.

    Raises `PutOffError`, and `OutputError` where they cannot be written. Cancelled, it drops what the engine has of it.
    """
    answering = Answering(context, context.service.model, asked, Note(line.id))
    try:
        made = await _made(asked, answering, context)
    except ApiError as error:
        return failed(line, error), 0
    kind = asked.encoding.picture_format
    files = [(f"{line.id}-{done.number}.{kind}", done.encoded.data) for done in made]
    await asyncio.to_thread(keep_pictures, folder, files)
    rows = sum(done.rows for done in made)
    data = [_entry(name, done, asked, batch) for (name, _), done in zip(files, made, strict=True)]
    return answered(line, answer_body(data, asked, rows), sum(len(data) for _, data in files)), rows


async def _made(asked: Generation, answering: Answering, context: ApiContext) -> list[Done]:
    """All pictures of a line. Raises `ApiError` where one fails by itself."""
    rows: dict[int, int] = {}
    made: list[Done] = []
    async with Flight(context.service) as flight:
        _submit(flight, asked)
        async for index, event in flight.events():
            match event:
                case Accepted():
                    rows[index] = event.rows
                case Finished():
                    made += await answering.finished(index, event, rows.get(index, 0))
                case Failed():
                    raise _verdict(event.error)
    return sorted(made, key=lambda done: done.number)


def _submit(flight: Flight, asked: Generation) -> None:
    try:
        flight.submit(asked.wishes)
    except HeadraceError as error:
        raise _verdict(error) from None


def _verdict(error: HeadraceError) -> Exception:
    """Whether it is the line's fault, or only the wrong moment."""
    if isinstance(error, BusyError):
        return PutOffError(min(max(error.retry_after_s, 0.05), 30.0), str(error))
    if isinstance(error, ServiceError) and not isinstance(error, PoisonError):
        return PutOffError(2.0, str(error))
    return api_error(error)


def _entry(name: str, done: Done, asked: Generation, batch: BatchRecord) -> dict[str, Any]:
    if asked.as_url:
        return {"url": f"{batch.base_url}/v1/pictures/{batch.id}/{name}", "headrace": done.settings}
    return {"b64_json": in_file(name, len(done.encoded.data)), "headrace": done.settings}

"""`/v1/images`: pictures, at once or as a stream of previews and pictures."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from headrace.api.answering import Answering, Done, answer_body, now, usage
from headrace.api.context import ApiContext, Context
from headrace.api.encoder import MEDIA_TYPES, Encoded
from headrace.api.errors import ApiError, api_error, documented
from headrace.api.event_stream import EventStream, GoneError, event, unless_gone
from headrace.api.flight import Flight, Told
from headrace.api.generation import Generation, generation
from headrace.api.note import Note, note_of
from headrace.api.schemas import ImageRequest, ImagesBody
from headrace.service import Accepted, Event, Failed, Finished, Preview

router = APIRouter(tags=["images"])
_ERRORS = documented(400, 401, 403, 404, 408, 413, 422, 429, 500, 503)
_NOT_OFFERED = documented(401, 403, 404, 413)
_SMALL = 1 << 16  # bytes of pictures
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


@router.post(
    "/v1/images/generations",
    summary="Make pictures",
    responses={**_ERRORS, 200: {"model": ImagesBody, "content": _STREAM, "description": "pictures, or their stream"}},
)
async def generate(body: ImageRequest, request: Request, context: Context) -> Response:
    """Makes `n` pictures with seeds seed, seed + 1, ...; with `stream` sends events as OpenAI's client knows them.

    A request is refused at once or accepted; one of its pictures that fails, fails it. A caller who leaves drops it.
    """
    note = note_of(request.scope)
    _note_caller(body, note, context)
    card = context.service.model
    asked = generation(body, card, context.settings)
    answering = Answering(context, card, asked, note)
    flight = Flight(context.service)
    try:
        flight.submit(asked.wishes)
        note.fields["tickets"] = flight.tickets
        if body.stream:
            started = await unless_gone(_started(flight), request.receive)
            return _stream(flight.handed_on(), started, answering, context, note)
        done = await unless_gone(_all_done(flight, answering), request.receive)
        return await _answer(done, asked, context, request)
    except GoneError:
        context.metrics.disconnects.inc()
        return Response(status_code=499)  # nobody reads it
    finally:
        flight.cancel()


def _stream(flight: Flight, started: list[Told], answering: Answering, context: ApiContext, note: Note) -> EventStream:
    """The answer that owns the flight."""

    def on_end(gone: bool) -> None:
        flight.cancel()
        if gone:
            context.metrics.disconnects.inc()
            note.fields["gone"] = True

    return EventStream(_events(flight, started, answering, note), context.settings.keep_alive_s, on_end)


@router.get(
    "/v1/pictures/{name}",
    summary="A picture that was asked for by address",
    response_class=Response,
    responses={**documented(404), 200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}}},
)
async def picture(name: str, context: Context) -> Response:
    """The file, for as long as it is kept. Its name is all that it takes."""
    found = context.store.get(name)
    if found is None:
        raise ApiError(404, "there is no such picture any more. Ask for it again", "picture_not_found")
    kept = f"private, max-age={context.store.seconds_left(found)}, immutable"
    # Whoever was given its name may show it, on any page.
    headers = {"Cache-Control": kept, "Cross-Origin-Resource-Policy": "cross-origin"}
    return Response(found.data, headers=headers, media_type=found.media_type)


@router.post("/v1/images/edits", summary="Not offered", status_code=404, responses=_NOT_OFFERED)
@router.post("/v1/images/variations", summary="Not offered", status_code=404, responses=_NOT_OFFERED)
async def not_offered(request: Request) -> Response:
    """Pictures are made from requests, never from pictures: always 404."""
    message = f"{request.url.path} is not offered here: pictures cannot be given. Use /v1/images/generations"
    raise ApiError(404, message, "not_offered")


def _note_caller(body: ImageRequest, note: Note, context: ApiContext) -> None:
    user = body.safety_identifier or body.user
    if user:
        note.fields["user"] = hmac.new(context.settings.user_salt, user.encode(), "sha256").hexdigest()[:16]
    if context.settings.log_prompts:
        note.fields["prompt"] = body.prompt


async def _started(flight: Flight) -> list[Told]:
    """What came until every wish was accepted: a refusal can still be told by the answer's status."""
    came: list[Told] = []
    waiting = set(range(len(flight.tickets)))
    async for index, one in flight.events():
        if isinstance(one, Failed):
            raise api_error(one.error, passed=index not in waiting)
        came.append((index, one))
        waiting.discard(index)
        if not waiting:
            break
    return came


async def _all_done(flight: Flight, answering: Answering) -> list[Done]:
    """All pictures, compressed beside one another. Raises `ApiError` for the first that fails."""
    rows: dict[int, int] = {}
    encoding: list[asyncio.Task[list[Done]]] = []
    try:
        async for index, one in flight.events():
            match one:
                case Accepted():
                    rows[index] = one.rows
                case Finished():
                    encoding.append(asyncio.create_task(answering.finished(index, one, rows.get(index, 0))))
                case Failed():
                    raise api_error(one.error, passed=index in rows)
        made = await asyncio.gather(*encoding)
    finally:
        for task in encoding:
            task.cancel()
    return sorted((done for several in made for done in several), key=lambda done: done.number)


async def _answer(done: list[Done], asked: Generation, context: ApiContext, request: Request) -> Response:
    base = (context.settings.public_url or str(request.base_url)).rstrip("/")
    names = [_stored(one, asked, context) for one in done] if asked.as_url else []

    def write() -> bytes:
        data: list[dict[str, Any]] = []
        for place, one in enumerate(done):
            where = {"url": f"{base}/v1/pictures/{names[place]}"} if asked.as_url else {"b64_json": one.encoded.base64}
            data.append({**where, "headrace": one.settings})
        return json.dumps(answer_body(data, asked, sum(one.rows for one in done))).encode("ascii")

    size = sum(len(one.encoded.data) for one in done)
    # Handing a small one over takes longer than writing it.
    return Response(write() if size < _SMALL else await context.encoder.run(write), media_type="application/json")


def _stored(one: Done, asked: Generation, context: ApiContext) -> str:
    return context.store.put(one.encoded.data, MEDIA_TYPES[asked.encoding.picture_format])


async def _events(flight: Flight, started: list[Told], answering: Answering, note: Note) -> AsyncGenerator[bytes, None]:
    """The stream's events; an error that comes now ends it as an event, which OpenAI's client raises."""
    rows: dict[int, int] = {}
    try:
        for index, one in started:
            async for chunk in _told(index, one, answering, rows):
                yield chunk
        async for index, one in flight.events():
            async for chunk in _told(index, one, answering, rows):
                yield chunk
    except ApiError as error:
        note.code = error.code
        yield event("error", {"type": "error", **error.body()})


async def _told(index: int, one: Event, answering: Answering, rows: dict[int, int]) -> AsyncGenerator[bytes, None]:
    """What the caller hears of one event of wish number `index`."""
    match one:
        case Accepted():
            rows[index] = one.rows
        case Preview():
            encoded = await answering.preview(one, index)
            extension = {"picture": answering.number(index), "row": one.row, "rows": one.rows}
            fields = {"partial_image_index": one.index, "headrace": extension}
            yield event(_PARTIAL, {"type": _PARTIAL, **_common(encoded, answering.asked), **fields})
        case Finished():
            for done in await answering.finished(index, one, rows.get(index, 0)):
                told = {"usage": usage(done.rows), "headrace": done.settings}
                yield event(_COMPLETED, {"type": _COMPLETED, **_common(done.encoded, answering.asked), **told})
        case Failed():
            raise api_error(one.error, passed=True)


_PARTIAL = "image_generation.partial_image"
_COMPLETED = "image_generation.completed"


def _common(encoded: Encoded, asked: Generation) -> dict[str, Any]:
    return {
        "b64_json": encoded.base64,
        "background": "opaque",
        "created_at": now(),
        "output_format": asked.encoding.picture_format,
        "quality": asked.quality,
        "size": asked.written_size,
    }

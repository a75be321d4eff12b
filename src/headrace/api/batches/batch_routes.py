"""`/v1/batches`: lines that are worked on when nobody else needs the engine."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from headrace.api.batches.access import Access, Batching
from headrace.api.batches.answer import all_written_out
from headrace.api.batches.file_routes import JSON_LINES
from headrace.api.batches.records import BatchRecord, new_id
from headrace.api.batches.schemas import ENDPOINT, BatchBody, BatchList, BatchRequest, batch_body
from headrace.api.context import ApiContext, Context
from headrace.api.errors import documented

BatchId = Annotated[str, Path(max_length=100)]
Window = Annotated[str, Query(pattern=r"^[1-9][0-9]{0,2}h$")]
router = APIRouter(tags=["batches"], responses=documented(401, 403, 404, 422, 429))
_LINES = {"requestBody": {"required": True, "content": {JSON_LINES: {"schema": {"type": "string"}}}}}
_FILE: dict[int | str, dict[str, Any]] = {200: {"content": {JSON_LINES: {}}}}


@router.post("/v1/batches", summary="Work on an uploaded file", responses=documented(400, 408, 413, 503))
async def create(body: BatchRequest, request: Request, access: Access, context: Context) -> BatchBody:
    """Each line is a body of /v1/images/generations, by itself or as `body` beside a `custom_id`."""
    metadata = json.dumps(body.metadata)
    wanted = _record(body.input_file_id, body.completion_window, metadata, access, context, request)
    return await _created(wanted, access)


@router.post("/v1/batches/lines", summary="Submit lines", responses=documented(408, 413, 503), openapi_extra=_LINES)
async def create_of_lines(
    request: Request, access: Access, context: Context, completion_window: Window = "24h"
) -> BatchBody:
    """Upload and batch in one: the body is the JSON lines."""
    card = context.service.model  # raises where nothing is served, before anything is kept
    with access.shelf.files.upload() as upload:
        async for data in request.stream():
            upload.write(data)
        file = await asyncio.to_thread(upload.finish, f"{card.name}.jsonl")
    return await _created(_record(file.id, completion_window, "null", access, context, request), access)


@router.get("/v1/batches", summary="All batches")
def batches(
    access: Access,
    after: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """The newest first."""
    return BatchList.of([batch_body(record) for record in access.shelf.batches.page(after, limit + 1)], limit)


@router.get("/v1/batches/{batch_id}", summary="How far a batch is")
def batch(batch_id: BatchId, access: Access) -> BatchBody:
    """Poll it."""
    return batch_body(access.shelf.batches.get(batch_id))


@router.post("/v1/batches/{batch_id}/cancel", summary="Cancel a batch", responses=documented(409))
async def cancel(batch_id: BatchId, access: Access) -> BatchBody:
    """Lines that are done keep their answers; the others are answered with an error."""
    record = await asyncio.to_thread(access.shelf.batches.cancel, batch_id)
    access.runner.wake()
    return batch_body(record)


@router.get("/v1/batches/{batch_id}/output", summary="Pictures so far", response_class=Response, responses=_FILE)
def output(batch_id: BatchId, access: Access) -> Response:
    """Lines that have pictures, while the batch is worked on, too."""
    return _so_far(batch_id, "output", access)


@router.get("/v1/batches/{batch_id}/errors", summary="Errors so far", response_class=Response, responses=_FILE)
def errors(batch_id: BatchId, access: Access) -> Response:
    """Lines that failed, while the batch is worked on, too."""
    return _so_far(batch_id, "errors", access)


def _so_far(batch_id: str, kind: str, access: Batching) -> Response:
    record = access.shelf.batches.get(batch_id)
    lines = access.shelf.batches.answers(record.id, kind)
    return StreamingResponse(all_written_out(lines, access.shelf.pictures(record.id)), media_type=JSON_LINES)


def _record(
    file: str, window: str, metadata: str, access: Batching, context: ApiContext, request: Request
) -> BatchRecord:
    now = int(access.shelf.now())
    return BatchRecord(
        id=new_id("batch_"),
        endpoint=ENDPOINT,
        input_file=file,
        status="validating",
        completion_window=window,
        model=context.service.model.name,
        base_url=(context.settings.public_url or str(request.base_url)).rstrip("/"),
        created_at=now,
        expires_at=now + 3600 * int(window[:-1]),
        metadata=metadata,
    )


async def _created(record: BatchRecord, access: Batching) -> BatchBody:
    await asyncio.to_thread(access.shelf.batches.create, record)
    access.runner.wake()
    return batch_body(record)

"""`/v1/files`: files of JSON lines, as OpenAI's client uploads and fetches them."""

from __future__ import annotations

import asyncio
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, File, Form, Path, Query, UploadFile
from starlette.responses import FileResponse, Response, StreamingResponse

from headrace.api.batches.access import Access, Batching
from headrace.api.batches.records import FileRecord
from headrace.api.batches.schemas import FileBody, FileDeleted, FileList, file_body
from headrace.api.encoder import MEDIA_TYPES
from headrace.api.errors import ApiError, documented

JSON_LINES = "application/jsonl"
FileId = Annotated[str, Path(max_length=100)]
router = APIRouter(tags=["batches"], responses=documented(401, 403, 404, 422, 429))


@router.post("/v1/files", summary="Upload lines", responses=documented(400, 408, 413))
async def upload(
    access: Access,
    file: Annotated[UploadFile, File(description="JSON lines")],
    purpose: Annotated[Literal["batch"], Form()],
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=3600, le=2_592_000)] = None,
    anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
) -> FileBody:
    """Keeps a file for a batch. Nothing of it is read yet."""
    name = file.filename or "lines.jsonl"
    return file_body(await asyncio.to_thread(_copied, access, file.file, name, seconds))


@router.get("/v1/files", summary="All files")
def files(
    access: Access,
    after: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: Literal["batch", "batch_output"] | None = None,
) -> FileList:
    """Those that were uploaded, and those that batches gave."""
    found = access.shelf.files.page(after, limit + 1, order == "desc", purpose)
    return FileList.of([file_body(record) for record in found], limit)


@router.get("/v1/files/{file_id}", summary="A file")
def file(file_id: FileId, access: Access) -> FileBody:
    """What is known of it."""
    return file_body(access.shelf.files.get(file_id))


@router.delete("/v1/files/{file_id}", summary="Delete a file", responses=documented(409))
def delete(file_id: FileId, access: Access) -> FileDeleted:
    """With the output of a batch go its pictures."""
    access.shelf.forget(access.shelf.files.get(file_id))
    return FileDeleted(id=file_id)


@router.get(
    "/v1/files/{file_id}/content",
    summary="Fetch a file",
    response_class=Response,
    responses={200: {"content": {JSON_LINES: {}}}},
)
def content(file_id: FileId, access: Access) -> Response:
    """Its lines; pictures are put in as they are sent, so an output of any size takes the memory of one line."""
    return sent(access.shelf.files.get(file_id), access)


@router.get(
    "/v1/pictures/{batch_id}/{name}",
    summary="A picture of a batch that was asked for by address",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}}},
)
def picture(
    batch_id: Annotated[str, Path(pattern="^batch_[0-9a-f]{32}$")],
    name: Annotated[str, Path(pattern=r"^batch_req_[0-9a-f]{32}-[0-9]{1,4}\.(png|jpeg|webp)$")],
    access: Access,
) -> Response:
    """The file, until the batch's output is deleted. Its name is all that it takes."""
    path = access.shelf.pictures(batch_id) / name
    if not path.is_file():
        raise ApiError(404, "there is no such picture any more", "picture_not_found")
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix[1:]], headers={"Cache-Control": "private, immutable"})


def sent(record: FileRecord, access: Batching) -> Response:
    """A file as an answer."""
    headers = {
        "Content-Length": str(record.bytes),
        "Content-Disposition": f'attachment; filename="{record.id}.jsonl"',
        "Cache-Control": "private, no-store",
    }
    return StreamingResponse(access.shelf.content(record), headers=headers, media_type=JSON_LINES)


def _copied(access: Batching, source: BinaryIO, name: str, keep_s: int | None) -> FileRecord:
    with access.shelf.files.upload() as upload:
        while data := source.read(1 << 20):
            upload.write(data)
        return upload.finish(name, keep_s)

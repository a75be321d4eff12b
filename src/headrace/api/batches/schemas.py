"""Files and batches as OpenAI's client knows them (`openai.types.FileObject`, `openai.types.Batch`)."""

from __future__ import annotations

import json
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from headrace.api.batches.records import BatchRecord, FileRecord

ENDPOINT = "/v1/images/generations"
MOST_METADATA = 16


class FileBody(BaseModel):
    """A file of JSON lines."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"


Body = TypeVar("Body", "FileBody", "BatchBody")


class Page(BaseModel, Generic[Body]):
    """A page of a list; `has_more` behind `last_id`."""

    object: Literal["list"] = "list"
    data: list[Body]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, found: list[Body], limit: int) -> Self:
        """Of at most `limit`; one more was looked for, to know whether there is."""
        data = found[:limit]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first, last_id=last, has_more=len(found) > limit)


class FileList(Page[FileBody]):
    """Some files."""


class FileDeleted(BaseModel):
    """What became of a file."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class BatchRequest(BaseModel):
    """A batch of lines that were uploaded before."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input_file_id: Annotated[str, Field(max_length=100)]
    endpoint: Literal["/v1/images/generations"]
    completion_window: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2}h$")] = Field(
        description='"24h"; 1h to 999h: what is not done by then is given up'
    )
    metadata: dict[str, str] | None = Field(None, description="up to 16 names and values to find it again by")
    output_expires_after: dict[str, str | int] | None = Field(None, description="without effect: the operator decides")

    @field_validator("metadata")
    @classmethod
    def _short(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        checked_metadata(value)
        return value


class BatchProblem(BaseModel):
    """Why a line, or the batch as a whole where `line` is null, cannot be worked on."""

    code: str | None
    line: int | None
    message: str
    param: str | None


class BatchProblems(BaseModel):
    """The first hundred."""

    object: Literal["list"] = "list"
    data: list[BatchProblem]


class BatchCounts(BaseModel):
    """Lines."""

    total: int
    completed: int
    failed: int


class BatchTokens(BaseModel):
    """As in `usage` of the endpoint: output tokens are rows of the plans."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class BatchBody(BaseModel):
    """A batch. Times are seconds since 1970."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str
    errors: BatchProblems | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    usage: BatchTokens
    metadata: dict[str, str] | None


class BatchList(Page[BatchBody]):
    """Some batches, the newest first."""


def checked_metadata(values: dict[str, str] | None) -> None:
    """Raises `ValueError` for more, or longer, than is kept."""
    if values is not None and (
        len(values) > MOST_METADATA or any(len(name) > 64 or len(value) > 512 for name, value in values.items())
    ):
        raise ValueError("holds more than 16 pairs, a name of over 64 or a value of over 512 characters")


def file_body(record: FileRecord) -> FileBody:
    """What is told of a file."""
    return FileBody(
        id=record.id,
        bytes=record.bytes,
        created_at=record.created_at,
        expires_at=record.expires_at,
        filename=record.filename,
        purpose="batch" if record.kind == "input" else "batch_output",
    )


def batch_body(record: BatchRecord) -> BatchBody:
    """What is told of a batch."""
    problems = json.loads(record.problems)
    tokens = BatchTokens(
        input_tokens=record.input_tokens,
        input_tokens_details={"cached_tokens": 0},
        output_tokens=record.output_tokens,
        output_tokens_details={"reasoning_tokens": 0},
        total_tokens=record.input_tokens + record.output_tokens,
    )
    told = {name: getattr(record, name) for name in BatchBody.model_fields if hasattr(record, name)}
    return BatchBody.model_validate(
        {
            **told,
            "input_file_id": record.input_file,
            "output_file_id": record.output_file,
            "error_file_id": record.error_file,
            "errors": {"data": problems} if problems else None,
            "request_counts": {"total": record.total, "completed": record.completed, "failed": record.failed},
            "usage": tokens,
            "metadata": json.loads(record.metadata),
        }
    )

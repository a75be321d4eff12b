"""Errors as OpenAI's clients know them: `{"error": {"message", "type", "param", "code"}}`, and which status each has.

A value that cannot be served is 422 with its field; a body that is no JSON 400. A time limit that is refused in advance
or has passed is 408: it is the request's own, so no fault of the server's and nothing to try again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from headrace.api.note import note_of
from headrace.errors import (
    BusyError,
    DeadlineError,
    ExecutionError,
    HeadraceError,
    NotReadyError,
    NumericalError,
    PlanError,
    PoisonError,
    RequestError,
    ServiceError,
    SolverError,
    StoppingError,
)

# Names of a request's fields inside -> those that a caller writes.
_WRITTEN = {"height": "size", "width": "size", "timeout_s": "timeout_ms", "previews": "partial_images"}
_CODES = {400: "bad_request", 401: "invalid_api_key", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}
_STARTING_S = 5.0
_STOPPING_S = 10.0


class ApiError(HTTPException):
    """An answer that is an error.

    Attributes:
        code: in a word, as clients tell errors apart and metrics count them.
        param: the field that was wrong.
        retry_after_s: for the header Retry-After.
        retry: whether OpenAI's clients should try again, where the status alone would mislead them.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        *,
        retry_after_s: float | None = None,
        retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.retry = retry

    @property
    def status(self) -> int:
        """Of the HTTP answer."""
        return self.status_code

    @property
    def message(self) -> str:
        """What was wrong, and what to do."""
        return self.detail

    @property
    def kind(self) -> str:
        """The `type` of the error."""
        if self.status_code == 401:
            return "authentication_error"
        if self.status_code == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status_code < 500 else "server_error"

    def body(self) -> dict[str, Any]:
        """The object that says it."""
        return {"error": {"message": self.detail, "type": self.kind, "param": self.param, "code": self.code}}

    def respond(self, scope: Scope) -> Response:
        """The HTTP answer to that request, whose note then knows the code."""
        note_of(scope).code = self.code
        headers = dict(self.headers or {})
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.retry is not None:
            headers["x-should-retry"] = "true" if self.retry else "false"
        # ASCII alone: whatever a request held can be told of.
        return Response(json.dumps(self.body()), self.status_code, headers, "application/json")


class ErrorDetail(BaseModel):
    """What was wrong, with which value, and what to do; `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every answer that is an error."""

    error: ErrorDetail


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Of a route, for its documentation: the errors that it may answer with."""
    return {status: {"model": ErrorBody} for status in statuses}


def api_error(error: HeadraceError, passed: bool = False) -> ApiError:
    """How a typed error is answered; `passed`: it came after the wish was accepted."""
    message = str(error)
    match error:
        case RequestError():
            return ApiError(422, message, "invalid_value", _WRITTEN.get(error.field, error.field))
        case PlanError() | SolverError():
            return ApiError(422, message, "invalid_value", "solver")
        case BusyError():
            return ApiError(429, message, "busy", retry_after_s=error.retry_after_s)
        case DeadlineError():
            return ApiError(
                408, message, "deadline_passed" if passed else "deadline_refused", "timeout_ms", retry=False
            )
        case NotReadyError():
            return ApiError(503, message, "starting", retry_after_s=_STARTING_S)
        case StoppingError():
            return ApiError(503, message, "draining", retry_after_s=_STOPPING_S)
        case PoisonError():
            return ApiError(500, message, "poisoned", retry=False)
        case NumericalError() | ExecutionError():
            return ApiError(500, message, "picture_failed", retry=False)
        case ServiceError():
            return ApiError(503, message, "unavailable", retry_after_s=_STOPPING_S)
        case _:
            return ApiError(500, message, "picture_failed", retry=False)


def of_validation(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """What pydantic found, the first of it."""
    first = errors[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "not JSON")
        return ApiError(400, f"the body is not JSON: {reason}. Send one JSON object", "invalid_json")
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    field_name = ".".join(place) or None
    if field_name is None and first["type"] in ("missing", "model_attributes_type", "dict_type"):
        message = "the body is no JSON object. Send one, with the header Content-Type: application/json"
        return ApiError(422, message, "invalid_type")
    if first["type"] == "extra_forbidden":
        message = f"{_shorten(field_name)}: there is no such field. /openapi.json names those that there are"
        return ApiError(422, message, "unknown_parameter", field_name)
    reason = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "missing" else f"{_shorten(first.get('input'))} is not accepted: "
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return ApiError(422, f"{field_name or 'request'}: {given}{reason}", code, field_name)


def _shorten(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


async def answer_api_error(request: Request, error: Exception) -> Response:
    """For an `ApiError` that a route raised."""
    assert isinstance(error, ApiError)
    return error.respond(request.scope)


async def answer_headrace_error(request: Request, error: Exception) -> Response:
    """For a typed error that a route raised."""
    assert isinstance(error, HeadraceError)
    return api_error(error).respond(request.scope)


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """For a body or parameter of the wrong shape."""
    assert isinstance(error, RequestValidationError)
    return of_validation(error.errors()).respond(request.scope)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """For what the framework itself refuses: unknown paths and methods, bodies that cannot be parsed."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    code = _CODES.get(error.status_code, "error")
    return ApiError(error.status_code, message, code, headers=error.headers).respond(request.scope)

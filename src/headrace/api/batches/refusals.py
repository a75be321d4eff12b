"""Why something about files and batches is not done, beyond a field's value."""

from __future__ import annotations

from headrace.api.errors import ApiError


def unknown_id(field: str, identifier: str) -> ApiError:
    """No file or batch has this identifier, or no longer."""
    noun = {"batch_id": "batch"}.get(field, "file")
    shown = identifier if len(identifier) <= 64 else f"{identifier[:61]}..."
    listed = {"batch": "/v1/batches"}.get(noun, "/v1/files")
    return ApiError(404, f"there is no {noun} {shown!r}. GET {listed} lists what there is", "not_found", field)


def in_use(field: str, problem: str, remedy: str) -> ApiError:
    """What should be removed or changed is being worked on, or is over."""
    return ApiError(409, f"{problem}. {remedy}", "conflict", field)


def too_large(field: str, problem: str, remedy: str) -> ApiError:
    """A file is larger than the operator allows, or there is no room for it."""
    return ApiError(413, f"{problem}. {remedy}", "too_large", field)


def refused(field: str, problem: str, remedy: str) -> ApiError:
    """A value that cannot be."""
    return ApiError(422, f"{field}: {problem}. {remedy}", "invalid_value", field)

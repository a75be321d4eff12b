"""What a caller asks for: validated once, at the edge, and never changed afterwards."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from headrace.errors import RequestError

MAX_STEPS = 1000
MAX_PROMPT_CHARACTERS = 10_000
MAX_SIDE = 8192


class Request(BaseModel):
    """One picture: its conditioning, its solver and its own random stream.

    Sizes are in pixels. What is None is the model's own default. Build with `Request(...)` from code that is trusted to
    be right, and with `Request.parse(mapping)` from what a user typed: that raises `RequestError` with the field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: str | None = Field(default=None, max_length=MAX_PROMPT_CHARACTERS, description="text conditioning")
    negative_prompt: str | None = Field(
        default=None, max_length=MAX_PROMPT_CHARACTERS, description="what guidance moves away from"
    )
    class_label: int | None = Field(default=None, ge=0, description="class conditioning, an index of its classes")
    steps: int = Field(default=20, ge=1, le=MAX_STEPS, description="inference steps (Heun evaluates 2N-1 times)")
    solver: str | None = Field(default=None, description="a name of `headrace.models.solvers`; None: the model's own")
    guidance_scale: float | None = Field(
        default=None, ge=0.0, le=100.0, description="classifier-free guidance; 1 = off, half the work"
    )
    height: int | None = Field(default=None, ge=8, le=MAX_SIDE, description="pixels")
    width: int | None = Field(default=None, ge=8, le=MAX_SIDE, description="pixels")
    seed: int = Field(default=0, ge=0, lt=2**63, description="start of the request's own random stream")

    @field_validator("guidance_scale", mode="before")
    @classmethod
    def _whole_numbers_are_scales_too(cls, value: Any) -> Any:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("guidance_scale")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

    @field_validator("prompt")
    @classmethod
    def _not_blank(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is empty; say what the picture should show, or leave it out")
        return value

    @classmethod
    def parse(cls, values: Any) -> Request:
        """A request from untrusted values (a JSON object, command-line options). Raises `RequestError`."""
        if not isinstance(values, dict):
            problem = f"a request is a JSON object, not {type(values).__name__}"
            raise RequestError("request", problem, 'Write {"prompt": "..."}')
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "request"
            reason = first["msg"].removeprefix("Value error, ")
            problem = f"{field}: {_shorten(first.get('input'))} is not accepted: {reason}"
            raise RequestError(field, problem, _remedy(field)) from None


def _shorten(value: object) -> str:
    text = repr(value)
    length = len(value) if isinstance(value, str) else len(text)
    return text if len(text) <= 60 else f"{text[:40]}... ({length} characters)"


def _remedy(field: str) -> str:
    known = Request.model_fields.get(field)
    if known is None:
        return f"Known fields: {', '.join(Request.model_fields)}"
    return f"{field} is {known.description}"

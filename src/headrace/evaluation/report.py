"""The report of one evaluation: what was measured, how, on what."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.errors import DataError
from headrace.evaluation.figures import Figure
from headrace.evaluation.self_check import SelfCheck
from headrace.files import write_file

SCHEMA = 1


class Report(BaseModel):
    """What `headrace evaluate` writes and `headrace compare` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=SCHEMA, ge=1, le=SCHEMA, description="changes when a field does")
    headrace: str = Field(description="version that measured")
    created: str = Field(description="date and time, ISO 8601")
    name: str = Field(min_length=1, description="what was evaluated: the model, or the folder of pictures")
    settings: dict[str, Any] = Field(default_factory=dict, description="as given and as the model fills them in")
    data: dict[str, Any] = Field(default_factory=dict, description="the data set: path, pictures, digest")
    figures: list[Figure] = Field(default_factory=list)
    cost: dict[str, float] = Field(default_factory=dict, description="parameters, MACs, images/s, peak memory (bytes)")
    machine: dict[str, str | int] = Field(default_factory=dict)
    self_checks: list[SelfCheck] = Field(default_factory=list)
    skipped: list[str] = Field(default_factory=list, description="pictures left out, with the reason")
    skipped_count: int = Field(0, ge=0)
    warnings: list[str] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict, description="samples and grid")

    def write(self, path: Path) -> None:
        """As JSON, by rename. Raises `OutputError`."""
        text = json.dumps(_finite(self.model_dump(mode="json")), indent=2, ensure_ascii=False, allow_nan=False)
        write_file(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def read_report(path: Path) -> Report:
    """The report in a file. Raises `DataError` naming what is wrong with it."""
    remedy = "Give a file that `headrace evaluate --out` wrote"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{str(path)!r} cannot be read as a report: {reason}", remedy) from None
    if not isinstance(content, dict):
        raise DataError(f"{str(path)!r} holds a {type(content).__name__}, not a report", remedy)
    try:
        return Report(**content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{str(path)!r} is no report: {key}: {first['msg']}", remedy) from None


def shorten(skipped: Sequence[str], most: int = 20) -> list[str]:
    """The first of a long list; the count is reported beside it."""
    return list(skipped[:most])


def _finite(value: Any) -> Any:
    """JSON has no infinity: such a number is a null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

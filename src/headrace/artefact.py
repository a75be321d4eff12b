"""Artefacts: JSON files that calibration wrote, which say what they were measured on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.errors import ArtefactError
from headrace.files import write_file
from headrace.software import software

_UNCHANGED = "Give a file that calibration wrote, unchanged"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Artefact(BaseModel):
    """What every artefact names. Subclasses add what was found, and set `KIND`.

    Frozen; unknown keys, other types and numbers that are not finite are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    KIND: ClassVar[str] = "artefact"

    kind: str = Field(default="", description="what was calibrated")
    model: str = Field(min_length=1, description="name of the model")
    weights: str = Field(min_length=1, description="fingerprint of the model's files")
    date: str = Field(default_factory=_now, description="when it was made, UTC, ISO 8601")
    headrace: str = Field(default_factory=software, description="version that made it")
    figures: dict[str, float] = Field(default_factory=dict, description="what was measured, by name")

    def model_post_init(self, context: Any) -> None:
        """Fills in and checks the kind. Raises `ArtefactError`."""
        if not self.kind:
            object.__setattr__(self, "kind", self.KIND)
        if self.kind != self.KIND:
            raise ArtefactError(f"this is a {self.kind!r} artefact, not a {self.KIND!r}", "Give one of that kind")

    def save(self, path: str | Path) -> None:
        """Write the JSON file, a line a field, by rename. Raises `OutputError`."""
        fields = self.model_dump(mode="json").items()
        text = "{\n" + ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in fields) + "\n}\n"
        write_file(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The artefact of a file.

        Raises `ArtefactError`: missing, not JSON, another kind, unknown or missing keys, values out of range.
        """
        return cls._parse(_read(path), str(path))

    @classmethod
    def _parse(cls, content: str, name: str) -> Self:
        kind = _kind(content, name)
        if kind != cls.KIND:
            found = f"a {kind!r} artefact" if isinstance(kind, str) else "no artefact"
            raise ArtefactError(f"{name!r} is {found}, not a {cls.KIND!r}", "Give a file of that kind")
        try:
            return cls.model_validate_json(content)
        except ArtefactError as error:
            raise ArtefactError(f"{name!r}: {error.problem}", error.remedy) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            reason = first["msg"].removeprefix("Value error, ")
            raise ArtefactError(f"{name!r}: {where}: {reason}", _UNCHANGED) from None


class SolverArtefact(Artefact):
    """An artefact that holds for one solver and number of steps."""

    solver: str = Field(min_length=1, description="class of the solver and a digest of its configuration")
    steps: int = Field(ge=1, description="inference steps")


def kind_of(path: str | Path) -> str:
    """What kind of artefact a file holds. Raises `ArtefactError` for one that cannot be read or holds none."""
    kind = _kind(_read(path), str(path))
    if not isinstance(kind, str):
        raise ArtefactError(f"{str(path)!r} is no artefact", "Give a file that calibration or tuning wrote")
    return kind


def _read(path: str | Path) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtefactError(f"{str(path)!r} cannot be read: {reason}", "Give a file that calibration wrote") from None


def _kind(content: str, name: str) -> object:
    """The field `kind` of a JSON object; None where there is none."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{name!r} is not JSON: {error}", _UNCHANGED) from None
    return values.get("kind") if isinstance(values, dict) else None

"""Which columns of a table hold pictures, class numbers and captions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from headrace.errors import DataError

_IMAGE_NAMES = ("image", "img", "jpg", "png")
_LABEL_NAMES = ("label", "labels", "class_label")
_CAPTION_NAMES = ("caption", "text", "prompt")


@dataclass(frozen=True)
class ColumnNames:
    """Columns that a user named; None: found by the features a set declares, or else by the usual names."""

    image: str | None = None
    label: str | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Columns:
    """Columns that are there. `classes`: names of the classes that labels number, where the set declares them."""

    image: str
    label: str | None
    caption: str | None
    classes: tuple[str, ...] | None = None

    def names(self) -> list[str]:
        """Those that are read."""
        return [name for name in (self.image, self.label, self.caption) if name is not None]


def find_columns(where: str, schema: pa.Schema, wanted: ColumnNames, features: Mapping[str, Any]) -> Columns:
    """The columns of a table `where` with Hugging Face's `features` (empty where unknown).

    Raises `DataError` for a named column that is missing, and where no column holds encoded pictures.
    """
    for kind, name in (("image", wanted.image), ("label", wanted.label), ("caption", wanted.caption)):
        if name is not None and name not in schema.names:
            has = f"it has: {', '.join(schema.names)}"
            raise DataError(f"{where} has no column {name!r}", f"Set the {kind} column to another; {has}")
    image = wanted.image or _declared(features, "Image", schema) or _named(_IMAGE_NAMES, schema)
    if image is None:
        raise DataError(
            f"{where} has no column of pictures; it has: {', '.join(schema.names)}",
            f"Name the column of encoded images {_IMAGE_NAMES[0]!r}",
        )
    _check_pictures(where, schema.field(image))
    label = wanted.label or _declared(features, "ClassLabel", schema) or _named(_LABEL_NAMES, schema)
    caption = wanted.caption or _named(_CAPTION_NAMES, schema)
    classes = features.get(label, {}).get("names") if label is not None else None
    return Columns(image, label, caption, tuple(map(str, classes)) if classes else None)


def noted_features(schema: pa.Schema) -> dict[str, Any]:
    """The features that Hugging Face's libraries note in a file's schema; empty for files of others."""
    noted = (schema.metadata or {}).get(b"huggingface")
    try:
        return plain_features(json.loads(noted)["info"]["features"]) if noted else {}
    except (ValueError, KeyError, TypeError):
        return {}  # a note that nobody can read is no reason to refuse the pictures


def plain_features(features: Any) -> dict[str, Any]:
    """Those of a set's features that describe a single column."""
    return {name: one for name, one in features.items() if isinstance(one, dict)} if isinstance(features, dict) else {}


def _declared(features: Mapping[str, Any], kind: str, schema: pa.Schema) -> str | None:
    return next((name for name, one in features.items() if one.get("_type") == kind and name in schema.names), None)


def _named(names: Sequence[str], schema: pa.Schema) -> str | None:
    return next((name for name in names if name in schema.names), None)


def _check_pictures(where: str, field: pa.Field) -> None:
    kind = field.type
    if pa.types.is_struct(kind):
        good = any(kind.field(index).name in ("bytes", "path") for index in range(kind.num_fields))
    else:
        good = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    if not good:
        raise DataError(
            f"column {field.name!r} of {where} holds {kind}, not encoded pictures",
            "Store PNG or JPEG bytes (with Hugging Face's datasets: cast_column(name, Image()) and save again)",
        )

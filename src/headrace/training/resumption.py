"""What may differ between a run and the checkpoint that it continues from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.errors import TrainingError

# With another value of these, the checkpoint's steps would have learnt something else, from other pictures: going on
# would be no continuation. Rates, lengths, weightings and cadences are decisions that people take half-way.
_FIXED = (
    *("seed", "images_a_step", "items", "data.size"),
    *("objective", "network", "text_encoder", "widths", "classes", "space", "process.kind", "process.solver"),
    *("fusion", "fusion_kernel", "fusion_kind", "class_dropout"),
    *("stages.boundaries", "stages.artefact", "stages.decoders", "stages.attention", "stages.shared"),
)
# Of keys above that tables did not always have: what a checkpoint without them was made with.
_ONCE = {"fusion": 1, "fusion_kernel": 3, "fusion_kind": "fusebatch", "class_dropout": 0.0}


def check_recipe(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lines that say what differs, `key was old and is new`; none when the checkpoint has no record.

    Raises `TrainingError` where what differs cannot be continued from.
    """
    if not before:
        return []
    then = {key: value for key, value in _ONCE.items() if key in now} | dict(before)
    differing = list(differences(then, now))
    fixed = [line for key, line in differing if any(key == name or key.startswith(f"{name}.") for name in _FIXED)]
    if fixed:
        raise TrainingError(
            f"the checkpoint was made with another recipe: {fixed[0]}",
            "Resume with the recipe it was made with, or start again with another --out",
        )
    return [line for _, line in differing]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Dotted keys of nested tables that differ, each with a line for people."""
    old, new = dict(_flat(before)), dict(_flat(now))
    for key in [*new, *(key for key in old if key not in new)]:
        was, is_now = (repr(table[key]) if key in table else "absent" for table in (old, new))
        if was != is_now:
            yield key, f"{key} was {was} and is {is_now}"


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

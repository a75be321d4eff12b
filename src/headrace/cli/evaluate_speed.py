"""Pictures a second, over all the runs that made some of an evaluation's samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headrace.files import write_file

_SUMS = ("images_timed", "seconds", "peak_memory_bytes")


def add_run(path: Path, made: int, seconds: float, peak: int, conditions: dict[str, Any]) -> dict[str, float]:
    """Adds a run that made `made` pictures to the sums in a file and returns the figures of all runs there.

    Runs under other `conditions` (machine, slots) are not added up with this one: the file then begins anew. A run that
    made nothing changes nothing. Empty where nothing was ever timed. Raises `OutputError`.
    """
    known, sums = _read(path)
    if made:
        if known != conditions:
            sums = dict.fromkeys(_SUMS, 0.0)
        sums = {
            "images_timed": sums["images_timed"] + made,
            "seconds": sums["seconds"] + seconds,
            "peak_memory_bytes": max(sums["peak_memory_bytes"], float(peak)),
        }
        text = json.dumps({**sums, "conditions": conditions})
        write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    if not sums["images_timed"] or not sums["seconds"]:
        return {}
    return {**sums, "images_per_second": sums["images_timed"] / sums["seconds"]}


def _read(path: Path) -> tuple[Any, dict[str, float]]:
    """What the file holds; nothing where it is missing or damaged: its pictures are then not timed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content.get("conditions"), {key: float(content[key]) for key in _SUMS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, dict.fromkeys(_SUMS, 0.0)

"""Pictures a second, over all the runs that made some of an evaluation's samples."""

from __future__ import annotations

import json
from pathlib import Path

from headrace.files import write_file

TimingConditions = dict[str, str | int]
Figures = dict[str, float]
_SUMS = ("images_timed", "seconds", "peak_memory_bytes")


def add_run(
    path: Path, made: int, seconds: float, peak: int, conditions: TimingConditions
) -> tuple[Figures, TimingConditions]:
    """Adds a run that made `made` pictures to the sums in a file; the figures of all runs there, and their conditions.

    Runs under other `conditions` (machine, slots) are not added up with this one: the file then begins anew. A run that
    made nothing changes nothing, and the figures are still those of the conditions that are returned beside them.
    Without figures where nothing was ever timed. Raises `OutputError`.
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
        known = conditions
        text = json.dumps({**sums, "conditions": conditions})
        write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    if known is None or not sums["images_timed"] or not sums["seconds"]:
        return {}, conditions
    return {**sums, "images_per_second": sums["images_timed"] / sums["seconds"]}, known


def _read(path: Path) -> tuple[TimingConditions | None, Figures]:
    """What the file holds; nothing where it is missing or damaged: its pictures are then not timed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content["conditions"]), {key: float(content[key]) for key in _SUMS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, dict.fromkeys(_SUMS, 0.0)

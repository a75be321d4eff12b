"""The profile of a calibration as a table that other programs read."""

from __future__ import annotations

import csv
from pathlib import Path

from headrace.files import write_file
from headrace.techniques.block_caching.artefact import BlockCacheArtefact

HEADER = ("row", "timestep", "next_timestep", "block", "kind", "change", "deviation")


def write_csv(artefact: BlockCacheArtefact, path: Path) -> None:
    """A line for each row and block: the change from this row to the next, mean and deviation. Raises `OutputError`."""
    profile = artefact.profile
    lines = [
        (row, profile.timesteps[row], profile.timesteps[row + 1], block, kind, mean, deviation)
        for row, (means, deviations) in enumerate(zip(profile.mean.tolist(), profile.deviation.tolist(), strict=True))
        for block, kind, mean, deviation in zip(profile.work.blocks, profile.work.kinds, means, deviations, strict=True)
    ]

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *lines])

    write_file(path, write)

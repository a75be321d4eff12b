"""Which rounds a latency table is measured at, in which order, and how the table is made of what came out.

Plain Python and numpy: what runs a round and says how long it took is passed in.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headrace.errors import CalibrationError
from headrace.serving.chunk_choice import ChunkTimes
from headrace.serving.latency_table import ChunkGrid, LatencyTable, SizeLatencies
from headrace.serving.state import Size

GAIN = 0.1  # a batch is saturated where no larger one has a throughput more than this share above its own
_LEAST_DECODER = 0.01  # of a row: what is faster is no decoder whose error counts


@dataclass(frozen=True, slots=True)
class Load:
    """A kind of round: rows of one size, `skipped` of them without unconditional branch, beside decodings of it."""

    size: Size
    rows: int
    decodings: int = 0
    skipped: int = 0
    chunks: int = 1


Times = tuple[float, float]  # seconds until the rows and until the chunks of a round are done; 0 where there are none
Probe = Callable[[Load], Times]  # chunks: the mean over the chunks of a decoding


@dataclass(frozen=True)
class Design:
    """What is measured.

    Attributes:
        sizes: (height, width), pixels.
        rows: counts on the grid, from 0.
        decodings: counts on the grid, from 0.
        chunks: chunk counts, increasing.
        guided: whether rows have an unconditional branch to leave out: all rows or none of them do.
        repeats: times that each load is measured; the median counts.
        held_out: loads of each size between grid points, to know the error of interpolation.
        seed: of their choice, and of the order in which everything is measured.
    """

    sizes: tuple[Size, ...]
    rows: tuple[int, ...]
    decodings: tuple[int, ...]
    chunks: tuple[int, ...]
    guided: bool = True
    repeats: int = 3
    held_out: int = 6
    seed: int = 0

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the rows that skip."""
        return (0.0, 1.0) if self.guided else (0.0,)

    @cached_property
    def grid(self) -> tuple[Load, ...]:
        """Every round on the grid, once: without decodings chunk counts are one, without rows the shares are."""
        return tuple(
            self.at(size, u, v, share, chunks)
            for size in self.sizes
            for u in self.rows
            for v in self.decodings
            for share in (self.shares if u else (0.0,))
            for chunks in (self.chunks if v else (1,))
            if u or v
        )

    @cached_property
    def batches(self) -> tuple[Load, ...]:
        """Decodings alone in batches of 1, 2, 4, ...: what the throughput of the decoder is read from."""
        return tuple(Load(size, 0, v) for size in self.sizes for v in doubling(max(self.decodings)))

    @cached_property
    def between(self) -> tuple[Load, ...]:
        """The held-out loads, at random; fewer where the grid leaves out no more."""
        generator = random.Random(self.seed)
        on_grid, chosen = set(self.grid), []
        for size in self.sizes:
            every = [
                Load(size, u, v, s, chunks)
                for u in range(1, max(self.rows) + 1)
                for v in range(max(self.decodings) + 1)
                for s in range(u + 1 if self.guided else 1)
                for chunks in (self.chunks if v else (1,))
            ]
            free = [load for load in every if load not in on_grid]
            chosen += generator.sample(free, min(self.held_out, len(free)))
        return tuple(chosen)

    @cached_property
    def loads(self) -> tuple[Load, ...]:
        """Everything that is measured, each once."""
        return tuple(dict.fromkeys((*self.grid, *self.batches, *self.between)))

    def at(self, size: Size, rows: int, decodings: int, share: float, chunks: int) -> Load:
        """The load of a grid point."""
        return Load(size, rows, decodings, round(share * rows), chunks if decodings else 1)


def doubling(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `most`."""
    counts = [1]
    while 2 * counts[-1] < most:
        counts.append(2 * counts[-1])
    return tuple(dict.fromkeys((*counts, most)))


def measure(design: Design, probe: Probe, progress: Callable[[int], None] | None = None) -> Mapping[Load, Times]:
    """Medians over the repeats. Each repeat takes all loads in another random order, so that drift falls on all alike.

    `progress` is told of every probe. Raises what the probe raises, and `CalibrationError` for no repeats.
    """
    if design.repeats < 1:
        raise CalibrationError(f"repeats is {design.repeats}", "Measure everything at least once")
    generator = random.Random(design.seed)
    found: dict[Load, list[Times]] = {load: [] for load in design.loads}
    for _ in range(design.repeats):
        order = list(design.loads)
        generator.shuffle(order)
        for load in order:
            found[load].append(probe(load))
            if progress is not None:
                progress(1)
    return {load: _medians(times) for load, times in found.items()}


def _medians(times: Iterable[Times]) -> Times:
    unet, vae = zip(*times, strict=True)
    return statistics.median(unet), statistics.median(vae)


def decoded_figure(size: Size, batch: int) -> str:
    """The figure of a table that holds the pictures a second of a decoder that runs alone, `batch` at a time."""
    return f"decoded_per_s_{size[1]}x{size[0]}_{batch}"


def size_latencies(design: Design, size: Size, times: Mapping[Load, Times]) -> SizeLatencies:
    """The grids of one size, and the rows that saturate a call."""
    shape = (len(design.rows), len(design.decodings), len(design.shares))
    grids = []
    for chunks in design.chunks:
        unet, vae = np.zeros(shape), np.zeros(shape)
        for i, j, k in np.ndindex(shape):
            u, v = design.rows[i], design.decodings[j]
            if u or v:
                unet[i, j, k], vae[i, j, k] = times[design.at(size, u, v, design.shares[k], chunks)]
        grids.append(ChunkGrid.of(chunks, design.rows, design.decodings, design.shares, unet, vae))
    height, width = size
    alone = {u: times[Load(size, u)][0] for u in design.rows if u}
    return SizeLatencies(height=height, width=width, saturation=saturation(alone), grids=tuple(grids))


def saturation(seconds: Mapping[int, float], gain: float = GAIN) -> int:
    """The smallest batch such that no larger one's throughput is more than `gain` above its own.

    `seconds` are those of a call by its batch.
    """
    throughput = {batch: batch / time for batch, time in seconds.items()}
    return next(
        batch
        for batch in sorted(throughput)
        if all(other <= (1 + gain) * throughput[batch] for more, other in throughput.items() if more > batch)
    )


def chunk_times(design: Design, table: LatencyTable) -> list[list[ChunkTimes]]:
    """What equation (1) is decided by: one decoding beside as many rows as saturate a call, of every size."""
    return [
        [
            ChunkTimes(
                chunks,
                float(table.unet_s(size, rows, 1, 0, chunks)),
                float(table.vae_s(size, rows, 1, 0, chunks)),
                float(table.unet_s(size, rows)),
                float(table.vae_s(size, 0, 1)),
            )
            for chunks in design.chunks
        ]
        for size, rows in ((size, table.saturation(size)) for size in design.sizes)
    ]


def interpolation_errors(table: LatencyTable, times: Mapping[Load, Times], loads: Sequence[Load]) -> list[float]:
    """Relative errors of the table at loads that are not on its grid, of rows and of chunks.

    A model without an autoencoder takes next to no time for its pictures, and no error is counted for that.
    """
    errors = []
    for load in loads:
        unet, vae = times[load]
        at = (load.size, load.rows, load.decodings, load.skipped, load.chunks)
        if load.rows:
            errors.append(abs(float(table.unet_s(*at)) / unet - 1))
        if load.decodings and float(table.vae_s(load.size, 0, 1)) > _LEAST_DECODER * float(table.unet_s(load.size, 1)):
            errors.append(abs(float(table.vae_s(*at)) / vae - 1))
    return errors

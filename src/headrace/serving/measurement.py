"""Which rounds a latency table is measured at, in which order, and how the table is made of what came out.

Plain Python and numpy: what runs a round and says how long it took is passed in.
"""

from __future__ import annotations

import random
import statistics
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np

from headrace.errors import CalibrationError, HeadraceWarning
from headrace.serving.chunk_choice import WEIGHT, ChunkTimes, check_weight
from headrace.serving.latency_table import ChunkGrid, LatencyTable, SizeLatencies
from headrace.serving.state import Size

GAIN = 0.1  # a batch is saturated where no larger one has a throughput more than this share above its own
_ATTEMPTS = 100  # at each held-out load: a small grid leaves few out
_BUSY = 0.1  # spread
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
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Design:
    """What is measured. Raises `CalibrationError` for counts that do not increase, a size twice, a weight.

    Attributes:
        sizes: (height, width), pixels.
        rows: counts on the grid, 0 and 1 among them.
        decodings: counts on the grid, 0 and 1 among them.
        chunks: chunk counts, from 1.
        guided: whether rows have an unconditional branch to leave out: all rows or none of them do.
        repeats: times that each load is measured; the median counts.
        held_out: loads of each size between grid points, to know the error of interpolation.
        seed: of their choice, and of the order in which everything is measured.
        weight: of rows against decodings in equation (1), 0 to 1.
    """

    sizes: tuple[Size, ...]
    rows: tuple[int, ...]
    decodings: tuple[int, ...]
    chunks: tuple[int, ...]
    guided: bool = True
    repeats: int = 3
    held_out: int = 6
    seed: int = 0
    weight: float = WEIGHT

    def __post_init__(self) -> None:
        for name, first in (("rows", (0, 1)), ("decodings", (0, 1)), ("chunks", (1,))):
            counts = getattr(self, name)
            if counts[: len(first)] != first or any(before >= after for before, after in pairwise(counts)):
                begin = " and ".join(map(str, first))
                raise CalibrationError(f"{name} are {list(counts)}", f"Give whole numbers that increase from {begin}")
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            raise CalibrationError(f"sizes are {list(self.sizes)}", "Give each size once")
        check_weight(self.weight)

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
        generator, on_grid = random.Random(self.seed), set(self.grid)
        chosen: dict[Load, None] = {}
        for number, size in enumerate(self.sizes, start=1):
            for _ in range(_ATTEMPTS * self.held_out):
                u, v = generator.randint(1, max(self.rows)), generator.randint(0, max(self.decodings))
                skipped = generator.randint(0, u) if self.guided else 0
                load = Load(size, u, v, skipped, generator.choice(self.chunks) if v else 1)
                if load not in on_grid and len(chosen) < number * self.held_out:
                    chosen[load] = None
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


def measure(
    keys: Sequence[Key],
    probe: Callable[[Key], Times],
    repeats: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[Key, list[Times]]:
    """What `probe` says of each key, `repeats` times.

    Each repeat takes them all in another random order, so that what changes meanwhile falls on all alike. `progress`
    is told of every probe. Raises what the probe raises, and `CalibrationError` for no repeats.
    """
    if repeats < 1:
        raise CalibrationError(f"repeats is {repeats}", "Measure everything at least once")
    generator = random.Random(seed)
    found: dict[Key, list[Times]] = {key: [] for key in keys}
    for _ in range(repeats):
        for key in generator.sample(list(keys), len(keys)):
            found[key].append(probe(key))
            if progress is not None:
                progress(1)
    return found


def medians(samples: Mapping[Key, Sequence[Times]]) -> dict[Key, Times]:
    """Of rows and of chunks, each by itself."""
    return {
        key: (statistics.median(unet for unet, _ in times), statistics.median(vae for _, vae in times))
        for key, times in samples.items()
    }


def spread(samples: Mapping[Key, Sequence[Times]]) -> float:
    """By how much a round's median time is above its shortest, as a share of it; the median over all rounds.

    The longest does not count: the first call of a shape is slower on any machine.
    """
    shares = []
    for times in samples.values():
        spans = [max(one) for one in times]
        shares.append(statistics.median(spans) / min(spans) - 1)
    return statistics.median(shares)


def check_idle(samples: Mapping[Key, Sequence[Times]]) -> float:
    """The `spread`. Warns (`HeadraceWarning`) where it is that of a machine that does other things as well."""
    found = spread(samples)
    if found > _BUSY:
        warnings.warn(
            f"rounds took {found:.0%} longer than the shortest of their kind: the machine was busy. "
            "Measure again on an idle one",
            HeadraceWarning,
            stacklevel=2,
        )
    return found


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


def deciding_loads(design: Design, entries: Sequence[SizeLatencies]) -> list[Load]:
    """What equation (1) is decided by, in every size: a decoding beside as many rows as saturate a call, and alone."""
    return [
        load
        for entry in entries
        for load in (
            Load(entry.size, entry.saturation),
            Load(entry.size, 0, 1),
            *(Load(entry.size, entry.saturation, 1, 0, chunks) for chunks in design.chunks),
        )
    ]


def chunk_times(
    design: Design, entries: Sequence[SizeLatencies], times: Mapping[Load, Times]
) -> list[list[ChunkTimes]]:
    """The times of `deciding_loads`, size by size."""
    return [
        [
            ChunkTimes(
                chunks,
                *times[Load(entry.size, entry.saturation, 1, 0, chunks)],
                times[Load(entry.size, entry.saturation)][0],
                times[Load(entry.size, 0, 1)][1],
            )
            for chunks in design.chunks
        ]
        for entry in entries
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

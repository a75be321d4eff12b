"""How long a round takes: measured latencies of rows and decodings that run together, interpolated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, model_validator

from headrace.artefact import Artefact
from headrace.serving.interpolation import Floats, Grid, Surface
from headrace.serving.state import Size

Lane = Literal["interleaved", "threads", "streams"]
_Count = Annotated[int, Field(ge=0)]
_Seconds = Annotated[float, Field(ge=0)]
_Values = tuple[tuple[tuple[_Seconds, ...], ...], ...]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ChunkGrid(_Part):
    """Latencies of one size with decodings cut into so many chunks: [row][decoding][share].

    A point is a round of so many rows, so many of them (a share) without their unconditional branch, beside so many
    decodings that move one chunk on.
    """

    chunks: int = Field(ge=1, description="that a decoding is cut into; 1: whole")
    rows: tuple[_Count, ...] = Field(min_length=2, description="denoising rows, increasing from 0")
    decodings: tuple[_Count, ...] = Field(min_length=1, description="decodings, increasing from 0")
    skip_shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        min_length=1, description="of the rows, that skip their unconditional branch, increasing from 0"
    )
    unet_s: _Values = Field(description="seconds until the rows are done; 0 where there are none")
    vae_s: _Values = Field(description="seconds until the chunks are done; 0 where there are none")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("rows", "decodings", "skip_shares"):
            axis = getattr(self, name)
            if axis[0] != 0 or any(a >= b for a, b in pairwise(axis)):
                raise ValueError(f"{name} do not increase from 0")
        shape = (len(self.rows), len(self.decodings), len(self.skip_shares))
        for name in ("unet_s", "vae_s"):
            values = getattr(self, name)
            lengths = {len(line) for plane in values for line in plane}
            if len(values) != shape[0] or {len(plane) for plane in values} != {shape[1]} or lengths != {shape[2]}:
                raise ValueError(f"{name} is not rows x decodings x skip_shares, {shape}")
        if any(value for line in self.unet_s[0] for value in line):
            raise ValueError("unet_s is not 0 where there are no rows")
        if any(value for plane in self.vae_s for value in plane[0]):
            raise ValueError("vae_s is not 0 where there are no decodings")
        if any(value <= 0 for plane in self.unet_s[1:] for line in plane for value in line):
            raise ValueError("unet_s is 0 where there are rows")
        if any(value <= 0 for plane in self.vae_s for line in plane[1:] for value in line):
            raise ValueError("vae_s is 0 where there are decodings")
        return self

    @classmethod
    def of(
        cls,
        chunks: int,
        rows: Iterable[int],
        decodings: Iterable[int],
        skip_shares: Iterable[float],
        unet_s: ArrayLike,
        vae_s: ArrayLike,
    ) -> Self:
        """A grid of arrays [rows, decodings, skip_shares]."""
        return cls(
            chunks=chunks,
            rows=tuple(rows),
            decodings=tuple(decodings),
            skip_shares=tuple(skip_shares),
            unet_s=_nested(unet_s),
            vae_s=_nested(vae_s),
        )


class SizeLatencies(_Part):
    """What was measured of one size."""

    height: int = Field(ge=1, description="pixels")
    width: int = Field(ge=1, description="pixels")
    saturation: int = Field(ge=1, description="rows from which on more in a call gain little throughput")
    grids: tuple[ChunkGrid, ...] = Field(min_length=1, description="one a chunk count, increasing")

    @model_validator(mode="after")
    def _increase(self) -> Self:
        if any(a.chunks >= b.chunks for a, b in pairwise(self.grids)):
            raise ValueError("the grids' chunk counts do not increase")
        return self

    @property
    def size(self) -> Size:
        """(height, width), pixels."""
        return self.height, self.width


class LatencyTable(Artefact):
    """The concurrent latencies of one model on one machine (section III-C)."""

    KIND: ClassVar[str] = "latency table"

    machine: str = Field(min_length=1, description="that it was measured on")
    device: str = Field(min_length=1, description="name of the device")
    dtype: str = Field(min_length=1, description="of the network's weights")
    lane: Lane = Field(description="how rows and chunks overlapped when they were measured")
    sizes: tuple[SizeLatencies, ...] = Field(min_length=1, description="one a size")
    chunks: int = Field(ge=1, description="chosen by equation (1)")
    max_chunks: int = Field(ge=1, description="what the controller may raise it to")
    error: float = Field(ge=0, description="mean relative error of interpolation at points that were held out")
    max_error: float = Field(ge=0, description="the largest such error")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({entry.size for entry in self.sizes}) < len(self.sizes):
            raise ValueError("a size is there twice")
        if self.chunks > self.max_chunks:
            raise ValueError(f"chunks {self.chunks} is above max_chunks {self.max_chunks}")
        return self

    def unet_s(self, size: Size, u: ArrayLike, v: ArrayLike = 0, s: ArrayLike = 0, chunks: int = 1) -> Floats:
        """Seconds until `u` rows of a size are done, `s` of them skipping, beside `v` decodings of that size.

        Arrays that broadcast, whole numbers or not. Between grid points linear, and beyond the last, too, where it
        rises: a fall that ends the grid is noise, and is not followed. Between two measured chunk counts linear in
        1 / chunks. A size that was not measured takes the nearest one's times, by area, in proportion to the area.
        """
        return self._surface(size, chunks).many(u, v, s)[0]

    def vae_s(self, size: Size, u: ArrayLike, v: ArrayLike, s: ArrayLike = 0, chunks: int = 1) -> Floats:
        """Seconds until `v` decodings have moved one chunk on, beside `u` rows; as `unet_s`."""
        return self._surface(size, chunks).many(u, v, s)[1]

    def saturation(self, size: Size) -> int:
        """Rows in a call from which on more gain little throughput."""
        return self._nearest(size)[0].saturation

    def load_of(self, size: Size, decodings: Mapping[Size, float], chunks: int = 1) -> float:
        """Decodings of several sizes as so many of `size`, by what a chunk of one alone takes."""
        if all(other == size for other in decodings):
            return sum(decodings.values())
        own = self._surface(size, chunks).one(0, 1, 0)[1]
        if own == 0:
            return 0.0  # a model without a decoder
        return sum(count * self._surface(other, chunks).one(0, 1, 0)[1] for other, count in decodings.items()) / own

    def round_s(
        self, groups: Mapping[Size, tuple[float, float]], decodings: Mapping[Size, float], chunks: int = 1
    ) -> tuple[float, float]:
        """Seconds until the rows of a round are done, and until its chunks are.

        `groups` are (rows, rows that skip) of each size, `decodings` how many decodings of each size move one chunk
        on; what is left of a chunk that still runs counts as that fraction. Each size is a network call, one after
        another in the mapping's order. The chunks start with the first call; what part of them is not done when a call
        ends is the load beside the next one, and after the last the rest runs alone.
        """
        rest, elapsed, decoded = 1.0, 0.0, 0.0
        for size, (rows, skipped) in groups.items():
            load = rest * self.load_of(size, decodings, chunks) if decodings and rest > 0 else 0.0
            unet, vae = self._surface(size, chunks).one(rows, load, skipped)
            if load > 0:
                decoded = elapsed + min(unet, vae)
                rest *= max(0.0, 1 - unet / vae)
            elapsed += unet
        if decodings and rest > 0:
            size = max(decodings, key=lambda one: one[0] * one[1])
            decoded = elapsed + self._surface(size, chunks).one(0, rest * self.load_of(size, decodings, chunks), 0)[1]
        return elapsed, decoded

    def _nearest(self, size: Size) -> tuple[SizeLatencies, float]:
        """The measured size that is nearest by area, and the factor for its times."""
        area = size[0] * size[1]
        found = min(self.sizes, key=lambda entry: (entry.size != size, abs(entry.height * entry.width - area)))
        return found, area / (found.height * found.width)

    def _surface(self, size: Size, chunks: int) -> Surface:
        found = self._surfaces.get((size, chunks))
        if found is None:
            entry, factor = self._nearest(size)
            found = self._surfaces[size, chunks] = _surface(entry, chunks, factor)
        return found

    @cached_property
    def _surfaces(self) -> dict[tuple[Size, int], Surface]:
        return {}


def _surface(entry: SizeLatencies, chunks: int, factor: float) -> Surface:
    """The grids of the measured chunk counts on either side of `chunks`, or the nearest."""
    grids = entry.grids
    above = next((index for index, grid in enumerate(grids) if grid.chunks >= chunks), len(grids) - 1)
    after, before = grids[above], grids[max(0, above - 1)]
    if above == 0 or after.chunks <= chunks:
        return Surface([(factor, _grid(after))])
    weight = (1 / chunks - 1 / after.chunks) / (1 / before.chunks - 1 / after.chunks)
    return Surface([(factor * weight, _grid(before)), (factor * (1 - weight), _grid(after))])


def _grid(grid: ChunkGrid) -> Grid:
    return Grid((grid.rows, grid.decodings, grid.skip_shares), grid.unet_s, grid.vae_s)


def _nested(values: ArrayLike) -> _Values:
    return tuple(tuple(tuple(map(float, line)) for line in plane) for plane in np.asarray(values).tolist())

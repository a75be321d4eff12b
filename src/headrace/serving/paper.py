"""The paper's machine as a latency table, and its skip window, both written by hand from what its text reports.

The paper (SD 1.5 on an RTX 5090) gives ratios and one table of milliseconds; the table here is a model of contention
that has them. `assets/latency/paper.json` is `paper_table()`, saved.

The paper's: rows gain from batches less than in proportion, and less the larger the picture (figure 4); decodings gain
nothing (section II-A); whole decodings beside rows cost the rows 45% of their throughput (section IV-B3); chunks cost
at most 5% (section III-C); more than 90% of a request's time is rows (section I); table I's latencies of six rows and
six decodings in stages.

Assumed: that table I is of 1024 px and of decodings in four chunks; how cost grows with pixels; how contention falls
with the number of chunks and grows with decodings in a round; how decodings suffer; the window's curve between the
points that the text describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.serving.interpolation import Floats
from headrace.serving.latency_table import ChunkGrid, LatencyTable, SizeLatencies
from headrace.serving.skip_window import SkipWindow
from headrace.serving.state import Size

_SHIPPED = Path(__file__).parents[1] / "assets" / "latency" / "paper.json"
_ROWS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 32)
_DECODINGS = (0, 1, 2, 4, 8, 16)
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_CHUNKS = (1, 2, 4, 8)
_SATURATED = 0.9  # of the throughput of an endless batch


@dataclass(frozen=True)
class Contention:
    """Parameters of the model. Seconds are those of 1024 px.

    Attributes:
        call_s: of a network call, whatever it holds: weights read, kernels launched; equal at all sizes.
        row_s: of each guided row in it, on top.
        row_growth: how a row's seconds grow with pixels, an exponent; above 1 for attention.
        decoding_s: of a whole decoding alone, in proportion to pixels; v of them take v times as long.
        spike: slowdown of rows beside one whole decoding, above 1; such that `continuous`, with 16 slots at saturation,
            keeps 0.55 of its UNet throughput in the rounds that have decodings beside them.
        relief: with n chunks it is n ** -relief of that.
        crowding: by how much each further decoding in the round adds to it.
        stretch: slowdown of chunks beside rows, above 1.
        surge: what a spike adds to that.
    """

    call_s: float = 0.0115
    row_s: float = 0.0335
    row_growth: float = 1.2
    decoding_s: float = 0.088
    spike: float = 1.35
    relief: float = 2.5
    crowding: float = 0.4
    stretch: float = 0.2
    surge: float = 3.0

    def rows_s(self, size: Size, rows: Floats, skipped: Floats) -> Floats:
        """Seconds of a call alone; a row without its unconditional branch is half a row."""
        row = self.row_s * _pixels(size) ** self.row_growth
        return np.where(rows > 0, self.call_s + row * (rows - 0.5 * skipped), 0.0)

    def unet_s(self, size: Size, rows: Floats, decodings: Floats, skipped: Floats, chunks: int) -> Floats:
        """Seconds of a call beside decodings that move one chunk on."""
        return self.rows_s(size, rows, skipped) * (1 + self._spike(rows, decodings, skipped, chunks))

    def vae_s(self, size: Size, rows: Floats, decodings: Floats, skipped: Floats, chunks: int) -> Floats:
        """Seconds of the chunks."""
        alone = self.decoding_s * _pixels(size) * decodings / chunks
        slowed = 1 + self.stretch + self.surge * self._spike(rows, decodings, skipped, chunks)
        return alone * np.where(rows > 0, slowed, 1.0)

    def _spike(self, rows: Floats, decodings: Floats, skipped: Floats, chunks: int) -> Floats:
        """Slowdown above 1, less where rows compute less."""
        computed = 1 - 0.5 * np.divide(skipped, rows, out=np.zeros_like(skipped), where=rows > 0)
        crowd = np.where(decodings > 0, 1 + self.crowding * (decodings - 1), 0.0)
        found: Floats = self.spike * float(chunks) ** -self.relief * computed * crowd
        return found

    def saturation(self, size: Size) -> int:
        """Rows that reach 90% of the throughput of an endless batch."""
        row = self.row_s * _pixels(size) ** self.row_growth
        return int(np.ceil(_SATURATED / (1 - _SATURATED) * self.call_s / row))


def paper_table(
    contention: Contention | None = None,
    sizes: tuple[Size, ...] = ((512, 512), (768, 768), (1024, 1024)),
    chunks: int = 4,
    max_chunks: int = 8,
) -> LatencyTable:
    """The table of a model of contention; by default, the one that is shipped."""
    model = contention or Contention()
    entries = tuple(
        SizeLatencies(
            height=size[0],
            width=size[1],
            saturation=model.saturation(size),
            grids=tuple(_grid(model, size, count) for count in _CHUNKS),
        )
        for size in sizes
    )
    return LatencyTable(
        model="SD 1.5, as the paper reports it", weights="none: written by hand", machine="as the paper reports it",
        device="RTX 5090", dtype="float16", lane="streams", sizes=entries, chunks=chunks, max_chunks=max_chunks,
        error=0.0, max_error=0.0, figures=dict(vars(model)), date="2026-11-21T00:00:00+00:00", headrace="by hand",
    )  # fmt: skip


def shipped_table() -> LatencyTable:
    """The table of `assets/latency/paper.json`. Raises `ArtefactError` where the installation lacks it."""
    return LatencyTable.load(_SHIPPED)


def _grid(model: Contention, size: Size, chunks: int) -> ChunkGrid:
    rows, decodings, shares = np.meshgrid(
        np.asarray(_ROWS, float), np.asarray(_DECODINGS, float), np.asarray(_SHARES), indexing="ij"
    )
    unet = model.unet_s(size, rows, decodings, rows * shares, chunks)
    vae = model.vae_s(size, rows, decodings, rows * shares, chunks)
    return ChunkGrid.of(chunks, _ROWS, _DECODINGS, _SHARES, unet.round(7), vae.round(7))


def paper_window() -> SkipWindow:
    """Similarity falls with the share of skipped rows, steeply for early ones: 1 - 2.5 share (1 - start)^3.

    Figure 9 in words: brief skips early degrade much, some late ones hardly; table II's burst is at 0.87.
    """
    starts = np.linspace(0, 1, 21)
    shares = np.linspace(0.05, 1, 20)
    similarity = np.clip(1 - 2.5 * shares[None, :] * (1 - starts[:, None]) ** 3, 0, 1).round(6)
    return SkipWindow(starts.round(6).tolist(), shares.round(6).tolist(), similarity.tolist())


def _pixels(size: Size) -> float:
    return size[0] * size[1] / (1024 * 1024)

"""Latency tables that tests make up."""

from __future__ import annotations

import numpy as np

from headrace.serving.latency_table import ChunkGrid, LatencyTable, SizeLatencies

SQUARE = (512, 512)


def grid(unet, vae, chunks=1, rows=(0, 1, 2, 4, 8, 16), decodings=(0, 1, 2, 4, 8), shares=(0.0, 0.5, 1.0)):
    """A grid of functions of (rows, decodings, skipped) -> seconds, where there are rows and decodings."""
    shape = (len(rows), len(decodings), len(shares))
    unet_s, vae_s = np.zeros(shape), np.zeros(shape)
    for i, j, k in np.ndindex(shape):
        u, v, s = rows[i], decodings[j], rows[i] * shares[k]
        unet_s[i, j, k] = unet(u, v, s) if u else 0.0
        vae_s[i, j, k] = vae(u, v, s) if v else 0.0
    return ChunkGrid.of(chunks, rows, decodings, shares, unet_s, vae_s)


def entry(size, *grids, saturation=8):
    return SizeLatencies(height=size[0], width=size[1], saturation=saturation, grids=grids)


def table(*sizes, lane="streams", chunks=1, max_chunks=8):
    return LatencyTable(
        model="made up", weights="none", machine="none", device="none", dtype="float32", lane=lane, sizes=sizes,
        chunks=chunks, max_chunks=max_chunks, error=0.0, max_error=0.0,
    )  # fmt: skip


def contended(lane="streams", sizes=(SQUARE,), chunk_counts=(1, 2, 4, 8), contention=0.5):
    """Rows of 10 ms + 5 ms each (half without guidance), decodings of 100 ms; together each slows the other.

    On interleaved lanes they run one after the other, the decodings first.
    """

    def of(size, chunks):
        area = size[0] * size[1] / (512 * 512)

        def alone(u, s):
            return area * (0.01 + 0.005 * (u - 0.5 * s))

        def chunk(v):
            return area * 0.1 * v / chunks

        if lane == "interleaved":
            return grid(lambda u, v, s: chunk(v) + alone(u, s), lambda u, v, s: chunk(v), chunks)

        def slowdown(v):
            return 1 + contention * v / chunks

        return grid(
            lambda u, v, s: alone(u, s) * slowdown(v),
            lambda u, v, s: chunk(v) * (1 + contention * (u - 0.5 * s) / 8),
            chunks,
        )

    return table(*(entry(size, *(of(size, n) for n in chunk_counts)) for size in sizes), lane=lane)

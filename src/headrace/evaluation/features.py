"""A feature space for small pictures: where the colours are, and which way the edges run."""

from __future__ import annotations

import numpy as np

_CELL = 8
_BINS = 9
_COLOUR_SIDE = 16


def colour_features(images: np.ndarray) -> np.ndarray:
    """Colours averaged over a 16x16 grid: float32 [N, 768] in [0, 1] for uint8 [N, H, W, 3], sides multiples of 16."""
    count, height, width, _ = images.shape
    grid = images.reshape(count, _COLOUR_SIDE, height // _COLOUR_SIDE, _COLOUR_SIDE, width // _COLOUR_SIDE, 3)
    return (grid.mean(axis=(2, 4)) / 255).reshape(count, -1).astype(np.float32)


def orientation_features(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients (Dalal and Triggs, CVPR 2005): float32 [N, D] for uint8 [N, H, W, 3].

    Cells of 8x8 pixels, 9 unsigned orientations of the luminance's gradient, weighted by its magnitude; each 2x2 block
    of cells normalised to unit length with a floor that keeps empty blocks near zero.
    """
    luminance = images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    down, right = np.gradient(luminance, axis=(1, 2))
    magnitude = np.hypot(down, right)
    angle = np.mod(np.arctan2(down, right), np.pi) / np.pi * _BINS
    low = np.floor(angle).astype(int)
    upper_share = angle - low
    count, height, width = luminance.shape
    rows, columns = height // _CELL, width // _CELL
    cells = np.zeros((count, rows, columns, _BINS), np.float32)
    for number in range(_BINS):
        weight = np.where(low % _BINS == number, 1 - upper_share, 0) + np.where(
            (low + 1) % _BINS == number, upper_share, 0
        )
        tiles = (weight * magnitude).reshape(count, rows, _CELL, columns, _CELL)
        cells[..., number] = tiles.sum(axis=(2, 4))
    shifted = [cells[:, y : rows - 1 + y, x : columns - 1 + x] for y in (0, 1) for x in (0, 1)]
    blocks = np.concatenate(shifted, axis=-1)
    norms = np.sqrt(np.square(blocks).sum(axis=-1, keepdims=True) + 0.5**2)
    return (blocks / norms).reshape(count, -1)


class NearestPictures:
    """Finds the nearest of a set of reference pictures by cosine similarity.

    A picture's vector is its colours and its orientations, each minus the references' mean (so that the white
    background which all share counts for nothing) and scaled to unit length; both parts weigh the same.
    """

    def __init__(self, references: np.ndarray) -> None:
        parts = _parts(references)
        self._means = [part.mean(axis=0) for part in parts]
        self._vectors = self._vectors_of(parts)

    def order(self, images: np.ndarray) -> np.ndarray:
        """Indices of the references, nearest first: int [M, N] for uint8 [M, H, W, 3]."""
        similarities = self._vectors_of(_parts(images)) @ self._vectors.T
        return np.argsort(-similarities, axis=1, kind="stable")

    def ranks(self, images: np.ndarray, truths: np.ndarray) -> np.ndarray:
        """The place (from 0) of each picture's true reference in its order: int [M]."""
        return np.argmax(self.order(images) == truths[:, None], axis=1)

    def _vectors_of(self, parts: list[np.ndarray]) -> np.ndarray:
        scaled = []
        for part, mean in zip(parts, self._means, strict=True):
            centred = part - mean
            scaled.append(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-8))
        return np.concatenate(scaled, axis=1)


def _parts(images: np.ndarray) -> list[np.ndarray]:
    return [colour_features(images), orientation_features(images)]


def recall(ranks: np.ndarray, within: int) -> float:
    """The fraction of ranks (from 0) below `within`."""
    return float(np.mean(ranks < within))

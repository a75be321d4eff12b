"""From pictures to a feature set, in one pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from headrace.errors import DataError
from headrace.evaluation.extractors.extractor import FeatureExtractor, Features
from headrace.evaluation.feature_set import ABOUT, FEATURES, STATISTICS, FeatureSet, Rows, load
from headrace.evaluation.metrics.class_score import ClassScore
from headrace.evaluation.metrics.gaussian import Gaussian
from headrace.pictures.array_file import ArrayFile
from headrace.pictures.decoding import decode_all
from headrace.pictures.entry import Entry, PictureSource

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Batch:
    """Pictures of one size: uint8 [N, 3, H, W], and the entries they come from."""

    pictures: torch.Tensor
    entries: tuple[Entry, ...]


def batches(source: PictureSource, size: tuple[int, int] | None, most: int, skipped: list[str]) -> Iterator[Batch]:
    """Pictures in batches of one size and at most `most`. What is no picture is added to `skipped`, with the reason."""
    waiting: dict[tuple[int, ...], list[tuple[np.ndarray, Entry]]] = {}
    for entry, pixels in decode_all(source.entries(), size):
        if isinstance(pixels, DataError):
            skipped.append(pixels.problem)
            continue
        alike = waiting.setdefault(pixels.shape, [])
        alike.append((pixels, entry))
        if len(alike) == most:
            yield _batch(waiting.pop(pixels.shape))
    for alike in waiting.values():
        yield _batch(alike)


def _batch(alike: Sequence[tuple[np.ndarray, Entry]]) -> Batch:
    pixels = np.stack([pixels for pixels, _ in alike]).transpose(0, 3, 1, 2)
    return Batch(torch.from_numpy(np.ascontiguousarray(pixels)), tuple(entry for _, entry in alike))


def extract(
    source: PictureSource,
    extractor: FeatureExtractor,
    folder: Path,
    size: tuple[int, int] | None = None,
    progress: Progress | None = None,
    most: int = 64,
) -> FeatureSet:
    """Features of every picture, written into `folder` as they come and mapped from there.

    `size` is (height, width) that pictures are brought to, None: as they are. `progress` is told how many are done.
    Raises `DataError` where fewer than two can be decoded.
    """
    collected = _Collected(folder / FEATURES)
    skipped: list[str] = []
    try:
        for batch in batches(source, size, most, skipped):
            collected.add(extractor(batch.pictures), batch.entries)
            if progress is not None:
                progress(collected.count + len(skipped))
    finally:
        collected.close()
    if collected.count < 2:
        first = f"; the first that is none: {skipped[0]}" if skipped else ""
        raise DataError(
            f"{source.name} has {collected.count} readable picture(s){first}", "Statistics need at least 2 pictures"
        )
    about = {"extractor": extractor.name, "digest": extractor.digest, "fid": extractor.is_fid_inception}
    collected.write(folder, {**about, "skipped": skipped})
    return load(folder)


class _Collected:
    """Appends features to a .npy file and everything else to running sums."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: ArrayFile | None = None
        self._gaussian: Gaussian | None = None
        self._spatial: Gaussian | None = None
        self._score: ClassScore | None = None
        self._labels: list[int] = []
        self._captions: list[str | None] = []

    def add(self, features: Features, entries: Sequence[Entry]) -> None:
        pooled = _rows(features.pooled)
        if self._file is None or self._gaussian is None:
            self._file = ArrayFile(self._path, np.dtype("<f4"), pooled.shape[1:])
            self._gaussian = Gaussian(pooled.shape[1])
            self._spatial = Gaussian(features.spatial.shape[1]) if features.spatial is not None else None
            self._score = ClassScore(features.logits.shape[1]) if features.logits is not None else None
        self._gaussian.update(pooled)
        if self._spatial is not None and features.spatial is not None:
            self._spatial.update(_rows(features.spatial))
        if self._score is not None and features.logits is not None:
            self._score.update(_rows(features.logits))
        self._file.append(pooled)
        self._labels += [-1 if entry.class_number is None else entry.class_number for entry in entries]
        self._captions += [entry.caption for entry in entries]

    @property
    def count(self) -> int:
        """Pictures so far."""
        return 0 if self._file is None else self._file.count

    def close(self) -> None:
        """Complete the file."""
        if self._file is not None:
            self._file.close()

    def write(self, folder: Path, about: dict[str, object]) -> None:
        assert self._gaussian is not None
        tensors: dict[str, np.ndarray] = {"labels": np.array(self._labels, dtype=np.int64)}
        for name, fitted in (("pooled", self._gaussian), ("spatial", self._spatial)):
            if fitted is not None:
                tensors |= {f"{name}.mean": fitted.mean, f"{name}.scatter": fitted.scatter}
        if self._score is not None:
            score = {"counts": self._score.counts, "probabilities": self._score.probabilities}
            tensors |= {f"score.{name}": values for name, values in score.items()}
            tensors["score.negentropy"] = self._score.negentropy
        save_file(tensors, folder / STATISTICS)
        captions = self._captions if any(self._captions) else []
        (folder / ABOUT).write_text(json.dumps({**about, "count": self.count, "captions": captions}), encoding="utf-8")


def _rows(values: torch.Tensor) -> Rows:
    return np.ascontiguousarray(values.detach().float().cpu().numpy())

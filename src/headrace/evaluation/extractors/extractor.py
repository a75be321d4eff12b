"""The extractor protocol: pictures in, features out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch


@dataclass(frozen=True)
class Features:
    """Of N pictures: `pooled` [N, D]; `spatial` [N, S] of a layer that keeps places (None: none); `logits` [N, C] of a
    classifier (None: it is not one). All float32, on any device."""

    pooled: torch.Tensor
    spatial: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class FeatureExtractor(Protocol):
    """Figures of different extractors are different figures: `name` says which it is, `digest` which weights it has.

    `is_fid_inception` is True for the one network whose figures are called FID, sFID, Inception Score and KID.
    """

    name: str
    digest: str
    is_fid_inception: bool

    def __call__(self, pictures: torch.Tensor) -> Features:
        """Features of uint8 pictures [N, 3, H, W] on the host."""
        ...


def digest_of(*parts: str | Path) -> str:
    """16 hexadecimal digits for texts and the contents of files, in this order."""
    hasher = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as opened:
                hasher.update(hashlib.file_digest(opened, "sha256").digest())
        else:
            hasher.update(part.encode() + b"\0")
    return hasher.hexdigest()[:16]

"""Features without weights: coarse colours and edge directions."""

from __future__ import annotations

import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from headrace.evaluation.extractors.extractor import Features, digest_of
from headrace.evaluation.features import orientation_features

_SIDE = 32
_COLOURS = 4
_PLACES = 8


class ColourGradients:
    """Always there, the same everywhere: 48 mean colours on a 4x4 grid and 324 histograms of oriented gradients.

    It tells noise, blur, colour casts and missing modes from a data set, but not a good picture from a better one. So
    it serves to check a run, and its Frechet distance compares with nothing that is published. Noise is grey on
    average, so it lies amid the pictures: its distance is large and its recall 0, but its precision can be 1. The
    spatial features are the luminance on an 8x8 grid. Pictures are first scaled to 32x32 pixels.
    """

    name = "colour-gradients"
    is_fid_inception = False
    digest = digest_of("colour-gradients, version 1: colours 4x4, orientations of 32x32, luminance 8x8")

    def __call__(self, pictures: torch.Tensor) -> Features:
        """Features of uint8 pictures [N, 3, H, W]."""
        small = _scaled(pictures)
        colours = adaptive_avg_pool2d(small, _COLOURS).flatten(1) / 255
        whole = small.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        orientations = torch.from_numpy(orientation_features(whole))
        luminance = (small * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        places = adaptive_avg_pool2d(luminance, _PLACES).flatten(1) / 255
        return Features(torch.cat([colours, orientations], dim=1), spatial=places)


def _scaled(pictures: torch.Tensor) -> torch.Tensor:
    """Float [N, 3, 32, 32] in [0, 255]."""
    values = pictures.float()
    if values.shape[-2:] == (_SIDE, _SIDE):
        return values
    return interpolate(values, (_SIDE, _SIDE), mode="bilinear", antialias=True).clamp(0, 255)

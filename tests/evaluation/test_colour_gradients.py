"""The extractor without weights."""

import pytest
import torch

from headrace.evaluation.extractors.colour_gradients import ColourGradients


def ramp(size=32):
    rows = torch.linspace(0, 255, size).round()
    return torch.stack([rows.expand(size, size), rows[:, None].expand(size, size), torch.full((size, size), 40.0)])


def test_golden_features():
    """What the digest stands for. Where this changes, the version in the digest must."""
    features = ColourGradients()(ramp().to(torch.uint8)[None])
    assert features.pooled.shape == (1, 372)
    assert features.spatial.shape == (1, 64)
    assert features.pooled[0, :4].tolist() == pytest.approx([0.1127, 0.3706, 0.6294, 0.8873], abs=1e-4)
    assert float(features.pooled[:, 48:].sum()) == pytest.approx(20.4009, rel=1e-3)
    assert ColourGradients.digest == "539660723bab15c2"


def test_the_same_picture_at_another_size_has_about_the_same_features():
    small, large = (ColourGradients()(ramp(size).to(torch.uint8)[None]).pooled for size in (32, 96))
    other = ColourGradients()(torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)).pooled
    assert (small - large).norm() < 0.2 * (small - other).norm()

"""PSNR and SSIM of pairs, against torchmetrics and their definitions."""

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from headrace.errors import DataError
from headrace.evaluation.metrics.paired import cosine, psnr, ssim


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (4, 3, 24, 20), generator=generator, dtype=torch.uint8)
    noise = torch.randint(-20, 21, pictures.shape, generator=generator)
    return pictures, (pictures + noise).clamp(0, 255).to(torch.uint8)


def test_psnr_is_that_of_torchmetrics_and_infinite_for_equal_pictures(pairs):
    pictures, noisy = pairs
    each = [peak_signal_noise_ratio(a.double(), b.double(), data_range=255.0) for a, b in zip(*pairs, strict=True)]
    assert psnr(pictures, noisy).tolist() == pytest.approx([float(value) for value in each], rel=1e-6)
    assert psnr(pictures, pictures).isinf().all()


def test_ssim_is_one_for_equal_pictures_and_per_pair(pairs):
    pictures, noisy = pairs
    noisy[1] = pictures[1]
    values = ssim(pictures, noisy)
    assert values[1] == pytest.approx(1.0)
    assert (values[[0, 2, 3]] < 0.999).all()
    assert ssim(pictures[:1], noisy[:1])[0] == pytest.approx(float(values[0]))


def test_cosine():
    assert cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [3.0, 3.0]])).tolist() == (
        pytest.approx([0.0, 1.0])
    )


def test_pictures_of_other_sizes_are_refused(pairs):
    with pytest.raises(DataError, match="no pairs"):
        psnr(pairs[0], pairs[1][:, :, :10])
    with pytest.raises(DataError, match="11 x 11"):
        ssim(pairs[0][..., :10], pairs[1][..., :10])

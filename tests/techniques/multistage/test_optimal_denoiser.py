"""The closed form of Proposition 1 against brute force, against perturbations of it, and against a trained network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import CalibrationError
from headrace.techniques.multistage.optimal_denoiser import OptimalDenoiser

LEVELS = [1e-3, 1e-2, 0.1, 0.5, 1.0, 10.0, 152.0, 1e3]


def data(count=60, size=48, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, size)).astype(np.uint8))


def brute_force(images, noisy, sigma):
    """Equation 21 as it is printed, all in float64."""
    gaps = torch.cdist(noisy.double(), images.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.softmax(-gaps / (2 * sigma.double()[:, None] ** 2), dim=1) @ images.double()


def noised(clean, sigma, seed=1):
    return clean + sigma[:, None] * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sums", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", LEVELS)
def test_it_equals_brute_force_at_any_noise_level(level, sums):
    images = data()
    sigma = torch.full((60,), level)
    noisy = noised(images / 255, sigma)
    denoiser = OptimalDenoiser(images, block=7, sums=sums)
    found = denoiser.data_prediction(noisy, sigma)
    torch.testing.assert_close(found.double(), brute_force(images / 255, noisy, sigma), rtol=0, atol=2e-5)
    noise = denoiser.noise_prediction(noisy, sigma)
    torch.testing.assert_close(noise, (noisy - found) / sigma[:, None])


def test_images_that_nearly_coincide_are_told_apart_at_little_noise():
    near = torch.full((4, 3072), 0.5) + 2e-3 * torch.randn(4, 3072, generator=torch.Generator().manual_seed(0))
    sigma = torch.full((4,), 0.05)
    noisy = noised(near, sigma)
    found = OptimalDenoiser(near).data_prediction(noisy, sigma)
    expected = brute_force(near, noisy, sigma)
    assert expected.std() > 0
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(levels=st.lists(st.sampled_from(LEVELS), min_size=1, max_size=5), block=st.integers(1, 70))
def test_blocks_and_rows_that_share_a_call_change_nothing(levels, block):
    images = data()
    sigma = torch.tensor(levels)
    noisy = noised(images[: len(levels)] / 255, sigma)
    found = OptimalDenoiser(images, block=block).data_prediction(noisy, sigma)
    whole = OptimalDenoiser(images)
    alone = torch.cat([whole.data_prediction(noisy[i : i + 1], sigma[i : i + 1]) for i in range(len(levels))])
    torch.testing.assert_close(found, alone, rtol=0, atol=2e-5)


def test_no_noise_leads_back_to_the_image_and_pure_noise_to_the_mean():
    images = data()
    denoiser = OptimalDenoiser(images, span=(-1, 1))
    clean = denoiser.clean(torch.arange(60))
    assert (clean.min(), clean.max()) == (-1, 1)
    little, much = torch.full((60,), 1e-3), torch.full((60,), 1e3)
    torch.testing.assert_close(denoiser.data_prediction(noised(clean, little), little), clean)
    found = denoiser.data_prediction(noised(clean, much), much)
    torch.testing.assert_close(found, clean.mean(0).expand(60, -1), rtol=0, atol=0.05)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([0.01, 0.1, 1.0]), level=st.sampled_from([0.2, 0.5, 1.0]))
def test_no_perturbation_of_the_closed_form_has_a_lower_loss(seed, size, level):
    """Proposition 1: at any x, the loss of equation 17 is least at epsilon*."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(12, 3, generator=generator)
    sigma = torch.full((40,), level)
    noisy = noised(images[torch.randint(12, (40,), generator=generator)], sigma, seed)
    best = OptimalDenoiser(images).noise_prediction(noisy, sigma).double()
    other = best + size * torch.randn(best.shape, generator=generator, dtype=torch.float64)
    noise = (noisy[:, None] - images).double() / level  # of each image, had x come from it
    weights = torch.softmax(-noise.square().sum(2) / 2, dim=1)

    def loss(predicted):
        return (weights * (predicted[:, None] - noise).square().sum(2)).sum(1)

    assert (loss(best) <= loss(other) + 1e-9).all()


def test_a_network_trained_to_convergence_agrees_within_its_error():
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(6, 2, generator=generator)
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    steps = 1500
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)

    def batch(size):
        clean = images[torch.randint(6, (size,), generator=generator)]
        sigma = torch.exp(torch.empty(size).uniform_(-2, 1, generator=generator))
        noise = torch.randn(size, 2, generator=generator)
        return clean + sigma[:, None] * noise, sigma, noise

    def predict(noisy, sigma):
        scaled = noisy / (1 + sigma[:, None] ** 2).sqrt()
        return network(torch.cat([scaled, sigma.log()[:, None]], dim=1))

    for _ in range(steps):
        noisy, sigma, noise = batch(256)
        optimiser.zero_grad()
        (predict(noisy, sigma) - noise).square().mean().backward()
        optimiser.step()
        rate.step()
    with torch.no_grad():
        noisy, sigma, noise = batch(20_000)
        best = OptimalDenoiser(images).noise_prediction(noisy, sigma)
        trained = predict(noisy, sigma)
        least, reached = (best - noise).square().mean(), (trained - noise).square().mean()
        apart = (trained - best).square().mean()
    assert least < reached < 1.1 * least
    # The loss is that of epsilon* and the squared distance to it, but for chance.
    assert apart == pytest.approx(float(reached - least), rel=0.3)
    assert apart < 0.05 * best.square().mean()


@pytest.mark.parametrize("level", [0.0, -1.0, float("nan"), float("inf")])
def test_a_noise_level_that_is_none_is_refused(level):
    with pytest.raises(CalibrationError, match="sigma"):
        OptimalDenoiser(data()).data_prediction(torch.zeros(1, 48), torch.tensor([level]))


def test_no_images_are_refused():
    with pytest.raises(CalibrationError, match="0 images"):
        OptimalDenoiser(torch.zeros(0, 3))

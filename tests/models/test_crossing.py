"""Latents brought to another size: what happens to noise, to pictures and to their levels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.crossing import crossed, pooled, resized
from headrace.plan import Plan
from headrace.plan.crossing import Change, Crossing

MANY = 4000


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def two_rows(way: Crossing, signal: float = 0.8, sigma: float = 0.6) -> Plan:
    columns = {"signal": [0.6, signal], "sigma": [0.8, sigma], "scale": [0.5, 1.0], "crossing": [0, way]}
    return Plan(timestep=[9.0, 1.0], a=[1.0, 1.0], b=[[1.0], [1.0]], data_q=[1.0, 1.0], **columns)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(1, 5))
def test_pooled_noise_is_white(height: int, width: int, more: int, wider: int) -> None:
    small = pooled(noise(MANY, 1, height + more, width + wider), (1, height, width)).flatten(1)
    assert small.shape == (MANY, height * width)
    assert torch.allclose(torch.cov(small.T).reshape(height * width, -1), torch.eye(height * width), atol=0.15)


def test_halved_noise_is_the_mean_of_four_pixels_at_unit_variance() -> None:
    full = noise(3, 8, 8)
    expected = 2 * torch.nn.functional.avg_pool2d(full, 2)
    assert torch.allclose(pooled(full, (3, 4, 4)), expected, atol=1e-6)
    assert pooled(full, (3, 8, 8)) is full


@pytest.mark.parametrize("way", list(Crossing))
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 6), (1, 4, 8), (1, 2, 3)])
def test_latents_cross_at_the_level_of_their_row(way: Crossing, shape: tuple[int, int, int]) -> None:
    """A flat picture of 1 in white noise: signal and deviation behind the crossing are the plan's, whatever the way."""
    plan = two_rows(way)
    data, full = torch.ones(MANY, 1, 4, 4), (1, 8, 8)
    before = noise(MANY, 1, 4, 4)
    change = Change(1, 0.6 * data + 0.8 * before, data, 0.8 * data + 0.6 * before)
    latents = crossed(
        plan, change, shape, draw=lambda: noise(MANY, *shape, seed=1), first=lambda: noise(MANY, *full, seed=2)
    )
    assert latents.shape == (MANY, *shape)
    assert abs(latents.mean() - 0.8) < 0.02
    grown = shape[1] >= 4 and shape[2] >= 4
    if way is not Crossing.LATENTS or grown:
        assert abs(latents.var(dim=0).mean() - 0.36) < 0.02


def test_kept_noise_is_that_of_the_row_before_seen_coarsely() -> None:
    data, before = noise(1, 3, 4, 4), noise(1, 3, 4, 4, seed=5)
    change = Change(1, 0.6 * data + 0.8 * before, data, data)
    for way in (Crossing.KEPT_NOISE, Crossing.FIRST_NOISE):
        latents = crossed(
            two_rows(way), change, (3, 8, 8), lambda: noise(1, 3, 8, 8), lambda: noise(1, 3, 8, 8, seed=9)
        )
        rest = (latents - 0.8 * resized(data, (3, 8, 8))) / 0.6
        assert torch.allclose(pooled(rest, (3, 4, 4)), before, atol=1e-5)


def test_a_picture_is_the_same_alone_and_in_a_batch() -> None:
    data, before = noise(5, 3, 4, 4), noise(5, 3, 4, 4, seed=5)
    fine = noise(5, 3, 8, 8, seed=7)
    for way in Crossing:
        whole = crossed(two_rows(way), Change(1, before, data, before), (3, 8, 8), lambda: fine, lambda: fine)
        one = Change(1, before[2], data[2], before[2])
        assert torch.allclose(
            crossed(two_rows(way), one, (3, 8, 8), lambda: fine[2], lambda: fine[2]), whole[2], atol=1e-6
        )


def test_finished_latents_below_full_size_are_only_resized() -> None:
    latents = noise(1, 3, 4, 4)

    def never() -> torch.Tensor:
        raise AssertionError("no noise is drawn")

    after = crossed(two_rows(Crossing.KEPT_NOISE), Change(2, latents, latents, latents), (3, 8, 8), never, never)
    assert torch.equal(after, resized(latents, (3, 8, 8)))

"""FuseBatch's benchmark: what is counted, and what speeds mean."""

from dataclasses import replace

import pytest
import torch

from headrace.benchmarks._fusebatch.display import parts_table, plot, table
from headrace.benchmarks._fusebatch.networks import (
    CELEBA,
    CELEBA_HQ,
    CIFAR10,
    FLOW_MATCHING,
    SMALL_LATENT,
    latent_pipelines,
    pixel_pipeline,
)
from headrace.benchmarks._fusebatch.parts import measure_parts
from headrace.benchmarks._fusebatch.size import measure_size
from headrace.benchmarks._fusebatch.speed import VANILLA, Load, Speed, latent_speed, pixel_speed
from tiny_networks import NARROW_UNET

NARROW_AUTOENCODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 16),
    "latent_channels": 3,
    "norm_num_groups": 4,
}
SMALL = replace(CIFAR10, unet=NARROW_UNET)
LATENT = replace(SMALL_LATENT, unet=NARROW_UNET, autoencoder=NARROW_AUTOENCODER)


@pytest.mark.parametrize(
    ("configuration", "millions", "gmacs", "k2", "k4"),
    [(CIFAR10, 35.7, 6.07, 50.6, 25.5), (CELEBA, 113.7, 15.56, 50.9, 25.8)],
)
def test_the_papers_pixel_networks_have_its_size_and_work(configuration, millions, gmacs, k2, k4):
    size = measure_size(configuration)
    assert size.parameters / 1e6 == pytest.approx(millions, abs=0.1)
    assert size.macs / 1e9 == pytest.approx(gmacs, rel=0.005)
    assert size.overhead == {"k2": 63_120, "k4": 102_048}
    assert 100 * size.mac_ratios["k2"] == pytest.approx(k2, abs=0.3)
    assert 100 * size.mac_ratios["k4"] == pytest.approx(k4, abs=0.3)


def test_the_flow_matching_network_has_the_papers_overhead():
    size = measure_size(FLOW_MATCHING)
    assert size.overhead == {"k2": 185_872, "k4": 323_360}
    assert 100 * size.mac_ratios["k2"] == pytest.approx(50.5, abs=0.3)
    assert 100 * size.mac_ratios["k4"] == pytest.approx(25.4, abs=0.3)


def test_the_latent_network_has_the_papers_work():
    size = measure_size(CELEBA_HQ)
    assert size.macs / 1e9 == pytest.approx(96.38, rel=0.01)
    assert size.autoencoder_overhead == {"k2": 63_120, "k4": 102_048}
    assert size.decoder_ratios["k4"] == pytest.approx(0.25, abs=0.02)


def test_every_variant_makes_the_same_images_in_turns(tmp_path):
    pixel = pixel_pipeline(SMALL, (1, 2, 4), "cpu", torch.float32)
    speed = pixel_speed(pixel, Load(8, 4, 8))
    assert list(speed.seconds) == [VANILLA, "k2", "k4", "tfs"]
    latent = latent_speed(latent_pipelines(LATENT, "cpu", torch.float32), Load(4, 2, 4))
    assert list(latent.speedups) == ["fbae_k2", "fbae_k4", "fbunet_k2"]
    assert all(0 < latent.decoding[name] < seconds for name, seconds in latent.seconds.items())
    shares = {"small": measure_parts(pixel, 4, 8, 1)}
    assert sum(shares["small"].values()) == pytest.approx(1)
    shown = table(LATENT, measure_size(LATENT), latent)
    assert (shown.row_count, parts_table(shares).row_count) == (4, 1)
    plot({"small": (SMALL, speed), "latent": (LATENT, latent)}, tmp_path / "fusebatch.png")
    assert (tmp_path / "fusebatch.png").stat().st_size > 10_000


def test_speed_at_other_numbers_of_steps():
    speed = Speed(Load(4, 10, 4), {VANILLA: 12.0, "fbae_k2": 6.5}, {VANILLA: 2.0, "fbae_k2": 1.5})
    assert speed.speedups == {"fbae_k2": 12 / 6.5}
    assert speed.speedups_at(20) == {"fbae_k2": 22 / 11.5}

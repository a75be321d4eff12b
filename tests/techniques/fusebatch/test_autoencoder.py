"""FB-AE: K images, one latent."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, LDMPipeline, UNet2DModel

import headrace
from headrace.errors import ModelError
from headrace.models.chunked_decoder import ChunkedDecoder, can_be_cut
from headrace.models.macs import count_macs
from headrace.models.pipelines.folder import inspect
from headrace.models.pipelines.loading import load_components
from headrace.techniques.fusebatch.autoencoder import FuseBatchAutoencoderKL

LDM = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (128, 256, 512),
    "layers_per_block": 2,
    "latent_channels": 3,
    "sample_size": 256,
}
SMALL = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 16),
    "latent_channels": 3,
    "norm_num_groups": 4,
    "sample_size": 16,
}


def small(factor=2, **options):
    torch.manual_seed(factor)
    return FuseBatchAutoencoderKL(factor, **SMALL | options).eval().requires_grad_(False)


def latents_of(autoencoder, images):
    return autoencoder.encode(images).latent_dist.mean


@pytest.mark.parametrize("factor", [2, 4])
def test_k_images_have_one_latent_and_one_latent_has_k_images(factor):
    autoencoder = small(factor)
    images = torch.randn(2 * factor, 3, 16, 16)
    latents = latents_of(autoencoder, images)
    assert latents.shape == (2, 3, 8, 8)
    assert autoencoder.decode(latents).sample.shape == images.shape
    assert autoencoder(images).sample.shape == images.shape
    assert autoencoder.pictures == factor


def test_images_of_a_group_have_identities_and_groups_are_apart():
    autoencoder = small()
    images = torch.randn(4, 3, 16, 16)
    latents = latents_of(autoencoder, images)
    torch.testing.assert_close(latents_of(autoencoder, images[2:]), latents[1:])
    assert (latents_of(autoencoder, images[[1, 0, 3, 2]]) - latents).abs().max() > 1e-2
    decoded = autoencoder.decode(latents).sample
    torch.testing.assert_close(autoencoder.decode(latents[1:]).sample, decoded[2:])
    assert (decoded[0] - decoded[1]).abs().max() > 1e-2


@pytest.mark.parametrize(("factor", "overhead"), [(2, 63_120), (4, 102_048)])
def test_the_overhead_is_that_of_a_network_of_128_channels(factor, overhead):
    with torch.device("meta"):
        sizes = [sum(parameter.numel() for parameter in network.parameters())
                 for network in (FuseBatchAutoencoderKL(factor, **LDM), AutoencoderKL(**LDM))]  # fmt: skip
    assert sizes[0] - sizes[1] == overhead


@pytest.mark.parametrize("factor", [2, 4])
def test_a_decoded_image_costs_little_more_than_its_share(factor):
    with torch.device("meta"):
        latents = torch.zeros(1, 3, 64, 64)
        fused, vanilla = FuseBatchAutoencoderKL(factor, **LDM), AutoencoderKL(**LDM)
        work, whole = (count_macs(lambda kind=kind: kind.decode(latents)).total for kind in (fused, vanilla))
    assert 1 / factor < work / factor / whole < 1 / factor + 0.03


def test_it_is_saved_and_loaded_with_what_training_changed(tmp_path):
    autoencoder = small(4, kernel_size=5)
    autoencoder.register_to_config(scaling_factor=0.5)
    autoencoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["in_channels"], config["factor"], config["kernel_size"]) == (3, 4, 5)
    again = FuseBatchAutoencoderKL.from_pretrained(tmp_path).requires_grad_(False)
    assert again.config.scaling_factor == 0.5
    latents = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(again.decode(latents).sample, autoencoder.decode(latents).sample)


def test_it_is_a_part_of_a_latent_diffusion_folder(tmp_path):
    unet = UNet2DModel(sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
                       down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)  # fmt: skip
    LDMPipeline(small(), unet, DDIMScheduler()).save_pretrained(tmp_path / "model")
    folder = inspect(tmp_path / "model")
    assert folder.libraries["vqvae"] == "headrace"
    components = load_components(folder)
    assert type(components.vqvae) is headrace.FuseBatchAutoencoderKL
    assert type(components.unet) is UNet2DModel


def test_the_decoder_in_chunks_is_the_decoder_whole():
    autoencoder = small(2, layers_per_block=2)
    latents = torch.randn(3, 3, 8, 8)
    expected = autoencoder.decode(latents).sample
    decoder = ChunkedDecoder(autoencoder, 8, 8)
    vanilla = ChunkedDecoder(AutoencoderKL(**SMALL | {"layers_per_block": 2}), 8, 8)
    assert can_be_cut(autoencoder)
    assert decoder.max_chunks == vanilla.max_chunks
    assert decoder.costs[:-1] == vanilla.costs[:-1]
    assert decoder.costs[-1] > 2 * vanilla.costs[-1]  # the head runs for each picture, behind the unfusion
    for count in (1, 2, 5, 100):
        state = latents
        for chunk in decoder.chunks(count):
            state = chunk(state)
        assert torch.equal(state, expected)


def test_an_autoencoder_that_decodes_in_its_own_way_runs_whole():
    class Own(AutoencoderKL):
        def decode(self, z, return_dict=True, generator=None):
            return super().decode(2 * z, return_dict)

    assert not can_be_cut(Own(**SMALL))


def test_starting_from_a_vanilla_autoencoder_decodes_as_it_does():
    vanilla = AutoencoderKL(**SMALL).eval().requires_grad_(False)
    autoencoder = small()
    autoencoder.initialise_from(vanilla)
    latents = torch.randn(2, 3, 8, 8)
    twice = vanilla.decode(latents).sample.repeat_interleave(2, 0)
    torch.testing.assert_close(autoencoder.decode(latents).sample, twice)
    with pytest.raises(ModelError, match="same configuration"):
        autoencoder.initialise_from(AutoencoderKL(**SMALL | {"block_out_channels": (16, 16)}))


def test_what_cannot_be_fused_is_refused():
    with pytest.raises(ModelError, match="K = 1"):
        small(1)
    with pytest.raises(ModelError, match="fusion factors"):
        small(0)
    with pytest.raises(ValueError, match="3 images are not a multiple"):
        small().encode(torch.randn(3, 3, 16, 16))

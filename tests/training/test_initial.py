"""Weights of a trained model as the start of another."""

import logging

import pytest
import torch
from diffusers import UNet2DModel

from headrace.errors import RecipeError
from headrace.training.initial import start_from

NETWORK = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


@pytest.fixture
def trained(tmp_path):
    torch.manual_seed(0)
    unet = UNet2DModel(**NETWORK)
    unet.save_pretrained(tmp_path / "model" / "unet")
    return unet


def test_a_class_conditional_network_starts_from_an_unconditional_one(trained, tmp_path, caplog):
    for folder in (tmp_path / "model", tmp_path / "model" / "unet"):
        torch.manual_seed(1)
        unet = UNet2DModel(**NETWORK, num_class_embeds=10)
        before = unet.class_embedding.weight.clone()
        with caplog.at_level(logging.WARNING):
            assert start_from(unet, folder) == ("class_embedding.weight",)
        assert "class_embedding.weight" in caplog.text
        assert torch.equal(unet.class_embedding.weight, before)
        assert all(torch.equal(value, unet.state_dict()[name]) for name, value in trained.state_dict().items())


def test_half_precision_weights_are_taken_too(trained, tmp_path):
    trained.half().save_pretrained(tmp_path / "half" / "unet")
    unet = UNet2DModel(**NETWORK)
    assert start_from(unet, tmp_path / "half") == ()
    assert unet.dtype == torch.float32
    assert torch.equal(unet.conv_in.weight, trained.conv_in.weight.float())


@pytest.mark.parametrize("change", [{"block_out_channels": (16, 32)}, {"layers_per_block": 4}])
def test_another_network_is_refused(trained, tmp_path, change):
    unet = UNet2DModel(**{**NETWORK, **change})
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    with pytest.raises(RecipeError, match="another network"):
        start_from(unet, tmp_path / "model")
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_folders_that_hold_nothing_readable(tmp_path):
    unet = UNet2DModel(**NETWORK)
    with pytest.raises(RecipeError, match=r"no \.safetensors"):
        start_from(unet, tmp_path / "nowhere")
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(RecipeError, match="cannot be read"):
        start_from(unet, tmp_path)

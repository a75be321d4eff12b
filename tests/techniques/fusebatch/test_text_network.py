import pytest
import torch
from diffusers import UNet2DConditionModel

from headrace.errors import ModelError
from headrace.techniques.fusebatch.text_network import FusedUNet2DConditionModel
from tiny_networks import TEXT_UNET


def fused(factor=2, **options):
    torch.manual_seed(1)
    return FusedUNet2DConditionModel(factor, TEXT_UNET | options).eval().requires_grad_(False)


def inputs(rows):
    return torch.randn(rows, 4, 8, 8), torch.randn(rows, 5, 16)


def test_images_and_prompts_have_identities_by_index():
    network = fused()
    latents, text = inputs(4)
    plain = network(latents, 500, text).sample
    assert plain.shape == latents.shape
    assert network(latents, torch.full((4,), 500), text, return_dict=False)[0].equal(plain)
    swapped = torch.tensor([1, 0, 3, 2])
    both = network(latents[swapped], 500, text[swapped]).sample
    prompts = network(latents, 500, text[swapped]).sample
    assert (both - plain[swapped]).abs().max() > 1e-2
    assert (prompts - plain).abs().max() > 1e-5  # only by the embedding of the index: attention ignores order


def test_masked_tokens_do_not_matter_and_other_groups_do_not_either():
    network = fused()
    latents, text = inputs(4)
    mask = torch.ones(4, 5)
    mask[1, 3:] = 0
    changed = text.clone()
    changed[1, 3:] = 9.0
    changed[2] += 1.0
    before, after = network(latents, 9, text, mask).sample, network(latents, 9, changed, mask).sample
    torch.testing.assert_close(before[:2], after[:2])
    assert (before[2:] - after[2:]).abs().max() > 1e-4


def test_it_is_saved_loaded_and_started_from_a_vanilla_network(tmp_path):
    network = fused(3)
    vanilla = UNet2DConditionModel(**TEXT_UNET)
    network.initialise_from(vanilla)
    assert network.head.projection.weight.equal(vanilla.conv_out.weight)
    network.save_pretrained(tmp_path)
    again = FusedUNet2DConditionModel.from_pretrained(tmp_path).requires_grad_(False)
    latents, text = inputs(3)
    torch.testing.assert_close(again(latents, 9, text).sample, network(latents, 9, text).sample)


def test_what_cannot_be_fused_is_refused():
    with pytest.raises(ModelError, match="addition_embed_type = 'text_time'"):
        fused(addition_embed_type="text_time")
    with pytest.raises(ModelError, match="K = 1"):
        fused(1)
    with pytest.raises(ValueError, match="3 images are not a multiple"):
        fused()(torch.randn(3, 4, 8, 8), 9, torch.randn(3, 5, 16))

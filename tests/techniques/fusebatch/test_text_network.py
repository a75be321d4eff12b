"""FB-UNet with prompts: its size, its work, its identities by index."""

import pytest
import torch
from diffusers import UNet2DConditionModel

import headrace
from headrace.errors import ModelError
from headrace.models.macs import count_macs
from headrace.techniques.fusebatch.text_network import FuseBatchUNet2DConditionModel
from tiny_networks import TEXT_UNET

STABLE_DIFFUSION = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}


def fused(*factors, **options):
    torch.manual_seed(1)
    network = FuseBatchUNet2DConditionModel(factors or (2,), TEXT_UNET | options)
    return network.eval().requires_grad_(False)


def inputs(rows):
    return torch.randn(rows, 4, 8, 8), torch.randn(rows, 5, 16)


def test_images_and_prompts_have_identities_by_index():
    network = fused()
    latents, text = inputs(4)
    plain = network(latents, 500, text).sample
    assert plain.shape == latents.shape
    assert network(latents, torch.full((4,), 500), text, fusion=2, return_dict=False)[0].equal(plain)
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


def test_a_factor_of_one_is_the_plain_network_bit_for_bit():
    vanilla = UNet2DConditionModel(**TEXT_UNET).eval()
    network = fused(1, 2)
    network.initialise_from(vanilla)
    latents, text = inputs(3)
    expected = vanilla(latents, 7, text).sample
    assert torch.equal(network(latents, 7, text).sample, expected)
    assert torch.equal(network(latents, 7, text, fusion=1, return_dict=False)[0], expected)


def test_it_is_saved_loaded_and_started_from_a_vanilla_network(tmp_path):
    network = fused(1, 3)
    vanilla = UNet2DConditionModel(**TEXT_UNET)
    network.initialise_from(vanilla)
    body = network.networks["3"].body
    assert network.networks["3"].head.projection.weight.equal(vanilla.conv_out.weight)
    assert body.mid_block.resnets[0].conv1.weight.equal(vanilla.mid_block.resnets[0].conv1.weight)
    network.save_pretrained(tmp_path)
    again = headrace.FuseBatchUNet2DConditionModel.from_pretrained(tmp_path).requires_grad_(False)
    assert again.factors == (1, 3)
    assert (again.config.sample_size, again.config.in_channels) == (8, 4)
    latents, text = inputs(3)
    for factor in again.factors:
        found, expected = (one(latents, 9, text, fusion=factor).sample for one in (again, network))
        torch.testing.assert_close(found, expected)
    with pytest.raises(ModelError, match="same configuration"):
        network.initialise_from(UNet2DConditionModel(**TEXT_UNET | {"layers_per_block": 2}))


@pytest.mark.parametrize(("factor", "percent"), [(2, 50.6), (4, 25.7)])
def test_stable_diffusions_overhead_is_what_stands_around_the_body(factor, percent):
    """C = 4 and 320 channels: fusion K * 5,232, unfusion K * 102,720, K * 768 of index, 28 more inputs of `conv_in`."""
    with torch.device("meta"):
        vanilla = UNet2DConditionModel(**STABLE_DIFFUSION)
        network = FuseBatchUNet2DConditionModel([factor], STABLE_DIFFUSION)

        def work(one, rows):
            latents, text = torch.zeros(rows, 4, 64, 64), torch.zeros(rows, 77, 768)
            return count_macs(lambda: one(latents, torch.zeros(()), text))

        one, several = work(vanilla, 1), work(network, factor)
    sizes = [sum(parameter.numel() for parameter in part.parameters()) for part in (vanilla, network)]
    assert sizes[1] - sizes[0] == 28 * 320 * 9 + factor * (5_232 + 102_720 + 768)
    assert sizes[1] / sizes[0] < 1.001
    # All K prompts' tokens are keys and values of one body: its cross-attentions are as dear as those of K images.
    assert 100 * several.total / factor / one.total == pytest.approx(percent, abs=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"addition_embed_type": "text_time"}, "addition_embed_type = 'text_time' cannot be fused"),
        ({"time_cond_proj_dim": 32}, "time_cond_proj_dim = 32"),
        ({"num_class_embeds": 3}, "num_class_embeds = 3"),
        ({"encoder_hid_dim": 8, "encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type = 'image_proj'"),
        ({"cross_attention_dim": (16, 16)}, r"cross_attention_dim = \(16, 16\)"),
        ({"norm_num_groups": None}, "norm_num_groups = None"),
    ],
)
def test_what_cannot_be_fused_is_refused(options, words):
    for factor in (1, 2):
        with pytest.raises(ModelError, match=words):
            fused(factor, **options)


def test_factors_without_a_network_and_rows_that_fill_no_group_are_refused():
    with pytest.raises(ModelError, match="fusion factors"):
        fused(0)
    with pytest.raises(ValueError, match="no network for a fusion factor of 4"):
        fused(1, 2)(*inputs(4)[:1], 9, inputs(4)[1], fusion=4)
    with pytest.raises(ValueError, match="3 images are not a multiple"):
        fused()(torch.randn(3, 4, 8, 8), 9, torch.randn(3, 5, 16))

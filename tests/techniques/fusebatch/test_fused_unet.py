"""FB-UNet: its size, its work, its identities by index."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

import headrace
from headrace.errors import ModelError, PlanError
from headrace.models.macs import count_macs
from headrace.plan import Plan
from headrace.techniques.fusebatch.fusion import Unfusion
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel

CIFAR10 = {
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 256,
}
FLOW_MATCHING = {
    "sample_size": 32,
    "block_out_channels": (256, 256, 256),
    "layers_per_block": 4,
    "time_embedding_dim": 512,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 256,
}
SMALL = {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 8,
}


def small(factors, policy=None, **options):
    torch.manual_seed(0)
    return FuseBatchUNet2DModel(factors, SMALL | options, policy=policy).eval().requires_grad_(False)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("unet", "factor", "overhead"),
    [(CIFAR10, 2, 63_120), (CIFAR10, 4, 102_048), (FLOW_MATCHING, 2, 185_872), (FLOW_MATCHING, 4, 323_360)],
)
def test_the_parameter_overhead_is_the_papers(unet, factor, overhead):
    with torch.device("meta"):
        assert parameters(FuseBatchUNet2DModel([factor], unet)) - parameters(UNet2DModel(**unet)) == overhead


@pytest.mark.parametrize(("factor", "percent"), [(2, 50.6), (4, 25.5)])
def test_the_operations_of_an_image_are_the_papers_share_of_the_vanilla_ones(factor, percent):
    with torch.device("meta"):
        vanilla, fused = UNet2DModel(**CIFAR10), FuseBatchUNet2DModel([factor], CIFAR10)
        images, time = torch.zeros(factor, 3, 32, 32), torch.zeros(())

        def convolutions(network):  # as the papers count: without attention's products
            found = count_macs(lambda: network(images, time))
            return found.total - found.attention

        assert 100 * convolutions(fused) / convolutions(vanilla) == pytest.approx(percent, abs=0.3)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_every_index_has_an_identity(factor):
    network = small([factor])
    images = torch.randn(2 * factor, 3, 16, 16)
    order = torch.arange(2 * factor).reshape(2, factor).flip(1).flatten()
    plain, permuted = network(images, 500).sample, network(images[order], 500).sample
    assert plain.shape == images.shape
    assert (permuted - plain[order]).abs().max() > 1e-2 * plain.std()


def test_groups_do_not_see_one_another_and_the_images_of_a_group_do():
    network = small([2])
    images = torch.randn(4, 3, 16, 16)
    changed = images.clone()
    changed[2] += 1
    before, after = network(images, 500).sample, network(changed, 500).sample
    torch.testing.assert_close(before[:2], after[:2], rtol=0, atol=1e-5)
    assert all((before[row] - after[row]).abs().max() > 1e-3 for row in (2, 3))


def test_a_group_has_the_timestep_of_its_first_row():
    network = small([2])
    images = torch.randn(4, 3, 16, 16)
    several = network(images, torch.tensor([10, 999, 800, 999])).sample
    torch.testing.assert_close(several[:2], network(images[:2], 10).sample)
    torch.testing.assert_close(several[2:], network(images[2:], torch.tensor([800.0])).sample)
    assert (several[2:] - network(images[2:], 10).sample).abs().max() > 1e-3


def test_a_factor_of_one_is_the_plain_network_bit_for_bit():
    vanilla = UNet2DModel(**SMALL).eval()
    network = small([1, 2])
    network.initialise_from(vanilla)
    images = torch.randn(3, 3, 16, 16)
    assert torch.equal(network(images, 7).sample, vanilla(images, 7).sample)
    assert torch.equal(network(images, 7, fusion=1, return_dict=False)[0], vanilla(images, 7).sample)


def test_every_label_of_a_group_matters_by_its_index():
    network = small([2], num_class_embeds=5)
    images = torch.randn(2, 3, 16, 16)
    outputs = [network(images, 7, torch.tensor(labels)).sample for labels in ([1, 2], [2, 1], [1, 3])]
    assert all((one - outputs[0]).abs().max() > 1e-3 for one in outputs[1:])


def test_a_fourier_network_divides_by_its_timestep_behind_the_head():
    network = small([2], time_embedding_type="fourier")
    fused = network.networks["2"]
    images = torch.randn(2, 3, 16, 16)
    body = fused.body(fused.fusion(images), torch.tensor([0.3])).sample * 0.3
    expected = fused.head(fused.unfusion(body)) / 0.3
    torch.testing.assert_close(network(images, torch.tensor([0.3, 0.3])).sample, expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unfusion_by_index_is_unfusion_of_all(memory_format):
    unfusion = Unfusion(16, 3)
    features = torch.randn(2, 16, 4, 4).contiguous(memory_format=memory_format)
    each = list(unfusion.each(features))
    assert all(one.is_contiguous(memory_format=memory_format) for one in each)
    torch.testing.assert_close(torch.stack(each, 1).flatten(0, 1), unfusion(features))


def test_starting_from_a_vanilla_network_takes_all_but_the_first_convolution():
    vanilla = UNet2DModel(**SMALL, num_class_embeds=3)
    network = small([2], num_class_embeds=3)
    fused = network.networks["2"]
    first = fused.body.conv_in.weight.clone()
    network.initialise_from(vanilla)
    assert torch.equal(fused.body.conv_in.weight, first)
    assert torch.equal(fused.body.mid_block.resnets[0].conv1.weight, vanilla.mid_block.resnets[0].conv1.weight)
    assert torch.equal(fused.head.projection.weight, vanilla.conv_out.weight)
    both = torch.tensor([[1, 1]])
    torch.testing.assert_close(fused.body.class_embedding(both)[0], vanilla.class_embedding.weight[1])
    features = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(fused.unfusion(features), features.expand(2, -1, -1, -1))
    with pytest.raises(ModelError, match="same configuration"):
        network.initialise_from(UNet2DModel(**SMALL | {"layers_per_block": 2}))


def test_it_is_saved_and_loaded_as_diffusers_networks_are(tmp_path):
    network = small([1, 2, 4], num_class_embeds=3)
    network.save_pretrained(tmp_path)
    again = headrace.FuseBatchUNet2DModel.from_pretrained(tmp_path).requires_grad_(False)
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    assert again.factors == (1, 2, 4)
    assert again.config.sample_size == 16
    assert again.config.in_channels == 3
    for factor in again.factors:
        torch.testing.assert_close(
            again(images, 3, labels, factor).sample, network(images, 3, labels, factor).sample, rtol=0, atol=1e-5
        )


def test_rows_that_do_not_fill_a_group_and_factors_without_a_network_are_refused():
    network = small([2, 4])
    with pytest.raises(ValueError, match="3 images are not a multiple of the fusion factor 2"):
        network(torch.randn(3, 3, 16, 16), 7)
    with pytest.raises(ValueError, match="no network for a fusion factor of 3"):
        network(torch.randn(3, 3, 16, 16), 7, fusion=3)


@pytest.mark.parametrize("factors", [[], [0], [2, 2], [-1], [1.5], [True], [2000]])
def test_factors_that_are_none_are_refused(factors):
    with pytest.raises(ModelError, match="fusion factors"):
        FuseBatchUNet2DModel(factors, SMALL)


@pytest.mark.parametrize(
    "options",
    [
        {"class_embed_type": "timestep"},
        {
            "block_out_channels": (64, 128),
            "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
            "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"),
        },
    ],
)
def test_networks_that_depend_on_one_image_are_refused(options):
    with pytest.raises(ModelError, match="cannot be fused"):
        small([2], **options)


def test_a_kernel_without_a_middle_is_refused():
    with pytest.raises(ModelError, match="kernel of 4"):
        FuseBatchUNet2DModel([2], SMALL, kernel_size=4)


def test_a_model_decides_by_its_policy_or_as_the_paper_does(tmp_path):
    plan = Plan(timestep=np.arange(8)[::-1], a=1.0, b=np.ones((8, 1)))
    assert small([1, 2, 4]).decide(plan).fusion.tolist() == [4, 4, 4, 4, 2, 2, 1, 1]
    assert small([2]).decide(plan).fusion.tolist() == [2] * 8
    small([1, 4], policy=[[4, 0.25], [1, 0.75]]).save_pretrained(tmp_path)
    again = FuseBatchUNet2DModel.from_pretrained(tmp_path)
    assert again.decide(plan).fusion.tolist() == [4, 4, 1, 1, 1, 1, 1, 1]


def test_a_policy_of_other_factors_is_refused():
    with pytest.raises(PlanError, match="K=4"):
        small([1, 2], policy=[[4, 1.0]])
    with pytest.raises(PlanError, match="sum to"):
        small([1, 2], policy=[[2, 0.5]])

"""Parameters and operations, against hand counts and published ones."""

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import nn

from headrace.engine import Engine
from headrace.evaluation.cost import count_macs, measure_cost
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.request import Request


def test_a_hand_count():
    """Convolution: outputs x inputs x kernel x places. Linear: its weights. Attention: two N x N x width products."""
    convolution, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def run():
        places = convolution(torch.zeros(1, 3, 6, 7)).flatten(2).transpose(1, 2)
        attended = nn.functional.scaled_dot_product_attention(places[:, None], places[:, None], places[:, None])
        return linear(attended)

    attention = 2 * 42 * 42 * 8
    assert count_macs(run) == (8 * 3 * 9 * 42 + attention + 42 * 8 * 5, attention)


def test_the_cifar10_network_of_ddpm_has_its_published_cost():
    """35.7M parameters and 6.05 GMAC a row, which leave attention's products out (diffusers' count, FuseBatch).

    Five blocks attend among 256 places and one among 16, all 256 channels wide.
    """
    unet = UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        dropout=0.1,
    ).eval()
    pipeline = PixelPipeline(DDPMPipeline(unet, DDPMScheduler()), "ddpm")
    request = Request(steps=10)
    cost = measure_cost(pipeline, request, Engine(pipeline).plan(request))
    assert cost.parameters == cost.parameters_total == unet.num_parameters()
    assert cost.parameters == pytest.approx(35.7e6, rel=2e-3)
    assert cost.macs_a_row - cost.macs_attention_a_row == pytest.approx(6.05e9, rel=1e-3)
    assert cost.macs_attention_a_row == 2 * 256 * (5 * 256**2 + 16**2)
    assert cost.network_rows == 10
    assert cost.macs_a_picture == 10 * cost.macs_a_row


def test_guidance_doubles_the_rows_and_the_decoder_is_counted(tiny_model):
    engine = Engine.from_pretrained(tiny_model("sd1"))
    costs = []
    for guidance in (1.0, 5.0):
        request = Request(prompt="a red apple", steps=3, guidance_scale=guidance)
        costs.append(measure_cost(engine.pipeline, request, engine.plan(request)))
    assert costs[1].network_rows == 2 * costs[0].network_rows
    assert costs[0].macs_a_row == costs[1].macs_a_row > 0
    assert costs[0].macs_decoder > 0
    assert costs[0].parameters < costs[0].parameters_total

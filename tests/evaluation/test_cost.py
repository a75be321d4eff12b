"""Parameters and operations, against hand counts and published ones."""

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fused_models import latent_model, pixel_model
from headrace.engine import Engine
from headrace.evaluation.cost import measure_cost
from headrace.models.macs import count_macs
from headrace.models.pipelines.loading import load
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.request import Request
from headrace.techniques.multistage.network import MultistageUNet2DModel


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


def modules_macs(module, run):
    """Operations of convolutions and linear layers from the shapes that pass through them, as profilers count them."""
    counted = []

    def count(layer, inputs, output):
        fan_in = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else layer.in_features
        counted.append(output.numel() * fan_in)

    hooks = [
        layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return sum(counted)


@pytest.mark.parametrize("kind", ["ddpm", "ddpm-classes", "sd1"])
def test_agrees_with_counting_layer_by_layer_and_with_torchs_counter(tiny_model, kind):
    engine = Engine.from_pretrained(tiny_model(kind))
    pipeline = engine.pipeline
    fields = {"sd1": {"prompt": "a", "guidance_scale": 1.0}, "ddpm-classes": {"class_label": 1}}.get(kind, {})
    request = Request(steps=2, **fields)
    cost = measure_cost(pipeline, request, engine.plan(request))
    assert cost.parameters == pipeline.network.num_parameters()
    shape = pipeline.latent_shape(*pipeline.size(request))
    inputs = {"sample": torch.zeros(1, *shape), "timestep": torch.tensor([5.0])}
    inputs |= {name: tensor[None] for name, tensor in pipeline.encode([request])[0].positive.items()}

    def run():
        pipeline.network(**inputs)

    assert cost.macs_a_row - cost.macs_attention_a_row == modules_macs(pipeline.network, run)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        run()
    assert cost.macs_a_row == counter.get_total_flops() // 2


def test_pictures_that_share_an_evaluation_share_its_cost(tmp_path):
    pipeline = load(pixel_model(tmp_path / "fused", (1, 2, 4)))
    plan = Engine(pipeline).plan(Request(steps=4))
    one, two, four, mixed = (
        measure_cost(pipeline, Request(), plan.with_columns(fusion=k)) for k in (1, 2, 4, plan.fusion)
    )
    assert four.macs_a_row < 0.6 * two.macs_a_row < 0.4 * one.macs_a_row
    assert plan.fusion.tolist() == [4, 4, 2, 1]
    expected = (2 * four.macs_a_picture + two.macs_a_picture + one.macs_a_picture) / 4
    assert mixed.macs_a_picture == pytest.approx(expected, abs=4)
    double = load(latent_model(tmp_path / "fb-ae", 2))
    cost = measure_cost(double, Request(), Engine(double).plan(Request(steps=4)))
    latents = torch.zeros(1, 4, 8, 8)
    assert cost.macs_decoder == count_macs(lambda: double.decode(latents)).total // 2
    assert cost.macs_a_row == count_macs(lambda: double.network(latents, 5)).total // 2


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


def test_rows_of_a_network_with_stages_cost_what_their_decoders_do():
    unet = {"sample_size": 16, "block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 2}
    unet |= {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    network = MultistageUNet2DModel(unet, [16, 8], [0.3]).eval()
    pipeline = PixelPipeline(DDPMPipeline(network, DDPMScheduler()), "staged")
    request = Request(steps=10)
    plan = Engine(pipeline).plan(request)
    rows = torch.zeros(1, 3, 16, 16), torch.zeros(1)
    alone = [count_macs(lambda stage=stage: network(*rows, stage=stage)).total for stage in (0, 1)]
    near = int((plan.stage == 0).sum())
    assert 0 < near < 10
    found = measure_cost(pipeline, request, plan).macs_a_picture
    assert found == pytest.approx(near * alone[0] + (10 - near) * alone[1], rel=1e-6)

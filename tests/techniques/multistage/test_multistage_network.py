"""One encoder and a decoder for each stage: equal to diffusers' U-Net where it is one; rows do not see each other."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from headrace.errors import ModelError, PlanError
from headrace.plan.trace import trace
from headrace.techniques.multistage.decoder import groups_of, skip_channels, widths_of
from headrace.techniques.multistage.network import MultistageUNet2DModel, whole_configuration
from tiny_networks import pixel_unet

UNET = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 8,
    "attention_head_dim": 8,
}
DDPM_PLUS = {
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "downsample_type": "resnet",
    "upsample_type": "resnet",
}
BOUNDARIES = [0.4, 0.7]


def build(decoders, boundaries=(), seed=0, **unet):
    torch.manual_seed(seed)
    return MultistageUNet2DModel(UNET | unet, decoders, boundaries).eval().requires_grad_(False)


def rows(count, classes=None):
    torch.manual_seed(5)
    labels = None if classes is None else torch.arange(count) % classes
    return torch.randn(count, 3, 16, 16), torch.linspace(10.0, 900.0, count), labels


@pytest.mark.parametrize(
    "options",
    [
        {},
        DDPM_PLUS,
        {"num_class_embeds": 3},
        {"time_embedding_type": "fourier"},
        {"center_input_sample": True, "resnet_time_scale_shift": "scale_shift", "time_embedding_dim": 48},
        {"attention_head_dim": None, "layers_per_block": 2, "mid_block_type": None, "downsample_padding": 0},
    ],
    ids=["plain", "ddpm++", "classes", "fourier", "centred", "one head"],
)
def test_one_stage_of_the_encoders_width_is_diffusers_unet_bit_for_bit(options):
    torch.manual_seed(1)
    unified = UNet2DModel(**(UNET | options)).eval()
    network = build([16], **options)
    assert set(
        dict(network.encoders[0].named_parameters()) | dict(network.stage_decoders[0].named_parameters())
    ) == set(dict(unified.named_parameters()))
    network.initialise_from(unified)
    sample, times, labels = rows(4, options.get("num_class_embeds"))
    with torch.inference_mode():
        expected = unified(sample, times, labels).sample
        assert torch.equal(network(sample, times, labels).sample, expected)
        assert torch.equal(network(sample, 10, labels).sample, unified(sample, 10, labels).sample)
        (output,) = network(sample, times, labels, stage=0, return_dict=False)
    assert torch.equal(output, expected)


@pytest.mark.parametrize("options", [{}, DDPM_PLUS], ids=["plain", "ddpm++"])
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_a_mixed_batch_is_each_row_alone(options, kind):
    network = build([24, 16, [4, 8]], BOUNDARIES, num_class_embeds=3, **options)
    sample, times, labels = rows(6, 3)
    stages = [2, 0, 1, 0, 2, 0]
    with torch.inference_mode():
        mixed = network(sample, times, labels, stage=kind(stages)).sample
        alone = [
            network(sample[i : i + 1], times[i : i + 1], labels[i : i + 1], stage=stage).sample
            for i, stage in enumerate(stages)
        ]
    # Convolutions over other batch sizes add up in another order: 1e-5 of outputs of about 1.
    torch.testing.assert_close(mixed, torch.cat(alone), rtol=1e-5, atol=1e-5)
    assert (mixed - network(sample, times, labels, stage=0).sample).abs().max() > 1e-3


def test_the_encoder_runs_once_and_each_decoder_on_its_own_rows():
    network = build([16, 16, 16], BOUNDARIES)
    seen = []
    network.encoders[0].register_forward_hook(lambda _, inputs, out: seen.append(("encoder", len(inputs[0]))))
    for number, decoder in enumerate(network.stage_decoders):
        decoder.register_forward_hook(lambda _, __, out, number=number: seen.append((number, len(out))))
    sample, times, _ = rows(5)
    network(sample, times, stage=[2, 0, 0, 2, 2])
    assert seen == [("encoder", 5), (0, 2), (2, 3)]


@pytest.mark.parametrize("stages", [[0, 2, 0], [2, 2, 2]])
def test_gradients_reach_the_encoder_and_the_decoders_of_the_batch(stages):
    network = build([16, 16, 16], BOUNDARIES).requires_grad_(True).train()
    sample, times, _ = rows(3)
    network(sample, times, stage=stages).sample.square().mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())  # processes exchange all of them
    changed = [any(weight.grad.any() for weight in one.parameters()) for one in network.stage_decoders]
    assert changed == [stage in stages for stage in range(3)]


def test_separate_networks_share_nothing():
    torch.manual_seed(0)
    network = MultistageUNet2DModel(UNET, [16, 8], [0.5], shared=False).train()
    sample, times, _ = rows(3)
    network(sample, times, stage=[1, 1, 1]).sample.square().mean().backward()
    learnt = [any(weight.grad.any() for weight in one.parameters()) for one in network.encoders]
    assert learnt == [False, True]
    network.eval()
    with torch.inference_mode():
        mixed = network(sample, times, stage=[1, 0, 1]).sample
        one = network(sample, times, stage=1).sample
    torch.testing.assert_close(mixed[0], one[0], rtol=1e-5, atol=1e-5)
    unified = UNet2DModel(**UNET)
    network.initialise_from(unified)
    weights = [one.conv_in.weight for one in network.encoders]
    assert all(torch.equal(weight, unified.conv_in.weight) for weight in weights)


def test_rows_need_a_stage_that_is_there():
    network = build([16, 16], [0.5])
    sample, times, _ = rows(2)
    for stage in (None, 2, [0, -1]):
        with pytest.raises(ValueError, match="stage"):
            network(sample, times, stage=stage)
    with pytest.raises(ValueError, match="no classes"):
        network(sample, times, torch.tensor([0, 1]), stage=0)


def test_a_unified_network_starts_the_encoder_and_decoders_of_its_width():
    with torch.no_grad():
        unified = pixel_unet()
    network = build([24, 16, 4], BOUNDARIES)
    before = network.stage_decoders[0].conv_out.weight.clone()
    network.initialise_from(unified)
    sample, times, _ = rows(2)
    with torch.inference_mode():
        assert torch.equal(network(sample, times, stage=1).sample, unified(sample, times).sample)
    assert torch.equal(network.stage_decoders[0].conv_out.weight, before)
    with pytest.raises(ModelError, match="differs"):
        network.initialise_from(UNet2DModel(**(UNET | {"block_out_channels": [32, 64]})))


def test_it_is_saved_and_loaded(tmp_path):
    network = build([24, [16, 24]], [0.5])
    network.save_pretrained(tmp_path)
    loaded = MultistageUNet2DModel.from_pretrained(tmp_path)
    sample, times, _ = rows(3)
    with torch.inference_mode():
        outputs = [one(sample, times, stage=[0, 1, 0]).sample for one in (network, loaded)]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)  # weights of a file lie elsewhere in memory
    stored = loaded.state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in network.state_dict().items())
    assert loaded.stages.boundaries == (0.5,)
    assert loaded.config.in_channels == 3


@pytest.mark.parametrize(
    ("decoders", "boundaries", "unet", "error", "says"),
    [
        ([16, 16], [1.0], {}, PlanError, "boundar"),
        ([16, 16, 16], [0.7, 0.4], {}, PlanError, "boundar"),
        ([16, 16], [0.3, 0.6], {}, ModelError, "2 decoders"),
        ([17], [], {}, ModelError, "groups"),
        ([[16, 25]], [], {}, ModelError, "groups"),
        ([[16, 36]], [], {}, ModelError, "heads of 8"),
        ([[16]], [], {}, ModelError, "2 levels"),
        ([[16, 0]], [], {}, ModelError, "levels"),
        ([11], [], {"block_out_channels": [16, 24]}, ModelError, "11 wide"),
        ([16], [], {"up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]}, ModelError, "UNet2DModel"),
        ([16], [], {"block_out_channels": [16]}, ModelError, "UNet2DModel"),
    ],
)
def test_what_cannot_be_built_is_refused(decoders, boundaries, unet, error, says):
    with pytest.raises(error, match=says):
        build(decoders, boundaries, **unet)


def test_attention_may_be_left_out_of_a_decoder():
    torch.manual_seed(0)
    network = MultistageUNet2DModel(UNET, [16, 16], [0.5], attention=[True, False])
    kinds = [[type(block).__name__ for block in one.up_blocks] for one in network.stage_decoders]
    assert kinds == [["AttnUpBlock2D", "UpBlock2D"], ["UpBlock2D", "UpBlock2D"]]
    with pytest.raises(ModelError, match="attention"):
        MultistageUNet2DModel(UNET, [16, 16], [0.5], attention=[True])


def test_widths_follow_the_encoders_multipliers_and_groups_keep_four_channels():
    paper = whole_configuration({"block_out_channels": [128, 256], "norm_num_groups": 32} | _two_levels())
    assert widths_of(paper, 192) == (192, 384)
    assert widths_of(paper, [64, 80]) == (64, 80)
    # As DDPM++ has it, min(channels / 4, 32), where that divides; 144 is a decoder of 16 behind an encoder of 128.
    assert [groups_of(paper, channels) for channels in (16, 32, 128, 144, 384, 192)] == [4, 8, 32, 16, 32, 32]
    assert skip_channels(paper) == [128, 128, 128, 128, 256, 256]


def _two_levels():
    return {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}


def test_the_network_fills_the_stages_of_a_plan():
    from diffusers import DDIMScheduler

    network = build([16, 16, 16], BOUNDARIES)
    plan = network.decide(trace(DDIMScheduler(), 10))
    assert (np.diff(plan.stage) <= 0).all()
    assert set(plan.stage.tolist()) == {0, 1, 2}

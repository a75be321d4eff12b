"""Blocks that reuse: which there are, what they keep, and that a call's rows do not touch one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import PixArtTransformer2DModel

import tiny_networks
from headrace.errors import ModelError
from headrace.models.blocks import block_shape, find_blocks
from headrace.models.cached_block import CachedBlock
from headrace.models.denoiser import Rows
from headrace.models.row_cache import RowCache
from headrace.models.slot_cache import SlotCache

COUNT = 5


def text_inputs(count, size=8):
    torch.manual_seed(count)
    return torch.randn(count, 4, size, size), torch.randn(count, tiny_networks.TOKENS, tiny_networks.TEXT_WIDTH)


def rows(sample, timestep, compute, caches, keep=None, branches=None):
    compute = np.asarray(compute, bool)
    return Rows(
        sample=sample,
        timestep=torch.as_tensor(timestep).float(),
        conditioning={},
        branches=np.zeros(len(sample), np.int8) if branches is None else branches,
        columns={
            "compute": compute,
            "keep": np.ones_like(compute) if keep is None else keep,
            "timestep": np.asarray(timestep, np.float64),
        },
        caches=caches,
    )


def evaluate(unet, cache, asked, text):
    with torch.inference_mode(), cache.evaluating(asked):
        return unet(asked.sample, asked.timestep, encoder_hidden_states=text).sample


@pytest.fixture
def unet():
    return built("text u-net")[0]


KINDS = {
    "text u-net": (tiny_networks.text_unet, (4, 8, 8)),
    "text u-net, odd": (tiny_networks.text_unet, (4, 7, 10)),
    "pixel u-net": (tiny_networks.pixel_unet, (3, 16, 16)),
    "pixel u-net, unpadded": (lambda: tiny_networks.pixel_unet(downsample_padding=0), (3, 16, 16)),
    "DiT": (tiny_networks.dit_transformer, (4, 8, 8)),
    "PixArt": (lambda: tiny_networks.pixart_transformer(8), (4, 8, 8)),
}


def built(name):
    """A seeded network and the shape of its latents."""
    make, shape = KINDS[name]
    with torch.no_grad():
        torch.manual_seed(0)
        return make(), shape


def forward(network, shape, count=2):
    """A plain call of any of the networks."""
    name = type(network).__name__
    sample, timestep = torch.randn(count, *shape), torch.full((count,), 500.0)
    if name == "UNet2DModel":
        return network(sample, timestep).sample
    if name == "UNet2DConditionModel":
        return network(sample, timestep, text_inputs(count)[1]).sample
    if name == "DiTTransformer2DModel":
        return network(sample, timestep=timestep, class_labels=torch.zeros(count, dtype=torch.long)).sample
    assert isinstance(network, PixArtTransformer2DModel)
    width = network.config.caption_channels
    return network(
        sample,
        encoder_hidden_states=torch.randn(count, tiny_networks.TOKENS, width),
        timestep=timestep,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample


@pytest.mark.parametrize("name", KINDS)
def test_blocks_are_found_in_the_order_of_evaluation_with_their_shapes(name):
    network, shape = built(name)
    blocks = find_blocks(network, "transformer")
    resnets = find_blocks(network, "resnet")
    assert blocks
    assert bool(resnets) == ("u-net" in name)
    seen, observed = [], {}
    for path in blocks + resnets:
        network.get_submodule(path).register_forward_hook(lambda *_, path=path: seen.append(path))
    cache = RowCache(network, blocks + resnets)
    cache.observer = lambda block, value: observed.update({block: tuple(value.shape[1:])})
    sample = torch.randn(2, *shape)
    with torch.inference_mode(), cache.evaluating(rows(sample, [500.0, 500.0], np.ones((2, 0)), ())):
        forward(network, shape)
    cache.remove()
    assert [path for path in seen if path in blocks] == list(blocks)
    assert [path for path in seen if path in resnets] == list(resnets)
    for number, path in enumerate(blocks + resnets):
        assert block_shape(network.config, path, network.get_submodule(path), shape) == observed[number], path


def test_bytes_are_known_without_weights(unet):
    blocks = find_blocks(unet, "transformer")
    kept = np.ones((2, len(blocks)), bool)
    expected = RowCache(empty(unet), blocks).nbytes((4, 8, 8), kept)
    cache = RowCache(unet, blocks)
    caches = [SlotCache()]
    sample, text = text_inputs(2)
    for branch in (0, 1):
        asked = rows(sample[:1], [500.0], np.ones((1, len(blocks))), caches, branches=np.array([branch]))
        evaluate(unet, cache, asked, text[:1])
    assert caches[0].nbytes == expected
    assert RowCache(empty(unet), blocks, torch.bfloat16).nbytes((4, 8, 8), kept) * 2 == expected


def empty(unet):
    with torch.device("meta"):
        return type(unet).from_config(unet.config)


def test_rows_that_evaluate_everything_are_the_network_bit_for_bit(unet):
    sample, text = text_inputs(COUNT)
    timestep = torch.linspace(900, 100, COUNT)
    with torch.inference_mode():
        expected = unet(sample, timestep, text).sample
    for kind in ("transformer", "resnet"):
        blocks = find_blocks(unet, kind)
        cache = RowCache(unet, blocks)
        caches = [SlotCache() for _ in range(COUNT)]
        output = evaluate(unet, cache, rows(sample, timestep, np.ones((COUNT, len(blocks))), caches), text)
        assert torch.equal(output, expected)
        assert all(len(one.values) == len(blocks) for one in caches)
        cache.remove()
    assert not any(isinstance(module, CachedBlock) for module in unet.modules())
    with torch.inference_mode():
        assert torch.equal(unet(sample, timestep, text).sample, expected)


@pytest.mark.parametrize("kind", ["transformer", "resnet"])
def test_reuse_on_the_same_input_gives_the_same_output(unet, kind):
    sample, text = text_inputs(COUNT)
    timestep = np.full(COUNT, 300.0)
    blocks = find_blocks(unet, kind)
    cache, caches = RowCache(unet, blocks), [SlotCache() for _ in range(COUNT)]
    computed = evaluate(unet, cache, rows(sample, timestep, np.ones((COUNT, len(blocks))), caches), text)
    reused = evaluate(unet, cache, rows(sample, timestep, np.zeros((COUNT, len(blocks))), caches), text)
    assert (reused - computed).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["transformer", "resnet"])
def test_a_row_is_the_same_alone_and_among_rows_with_other_decisions(unet, kind):
    blocks = find_blocks(unet, kind)
    cache = RowCache(unet, blocks)
    random = np.random.default_rng(0)
    decisions = [np.ones((COUNT, len(blocks)), bool), *(random.random((3, COUNT, len(blocks))) < 0.5)]
    together, alone = ([SlotCache() for _ in range(COUNT)] for _ in range(2))
    for step, compute in enumerate(decisions):
        torch.manual_seed(step)
        sample, text = torch.randn(COUNT, 4, 8, 8), text_inputs(COUNT)[1]
        timestep = np.linspace(900, 100, COUNT) - 20 * step
        batched = evaluate(unet, cache, rows(sample, timestep, compute, together), text)
        for row in range(COUNT):
            one = slice(row, row + 1)
            single = rows(sample[one], timestep[one], compute[one], alone[one])
            assert (evaluate(unet, cache, single, text[one]) - batched[one]).abs().max() < 1e-4


def test_branches_keep_their_own_values(unet):
    blocks = find_blocks(unet, "transformer")
    cache, shared = RowCache(unet, blocks), SlotCache()
    sample, text = text_inputs(2)
    sample = sample[:1].expand(2, -1, -1, -1)
    branches = np.array([0, 1], np.int8)
    computed = evaluate(
        unet, cache, rows(sample, [500.0] * 2, np.ones((2, len(blocks))), [shared] * 2, None, branches), text
    )
    reused = evaluate(
        unet, cache, rows(sample, [500.0] * 2, np.zeros((2, len(blocks))), [shared] * 2, None, branches), text
    )
    assert (computed[0] - computed[1]).abs().max() > 1e-3
    assert (reused - computed).abs().max() < 1e-5


def test_what_no_later_row_reuses_is_not_kept(unet):
    blocks = find_blocks(unet, "transformer")
    cache, caches = RowCache(unet, blocks, torch.bfloat16), [SlotCache(), SlotCache()]
    sample, text = text_inputs(2)
    keep = np.zeros((2, len(blocks)), bool)
    keep[0, 1] = True
    evaluate(unet, cache, rows(sample, [500.0] * 2, np.ones((2, len(blocks))), caches, keep), text)
    assert [list(one.values) for one in caches] == [[(1, 0)], []]
    assert caches[0].values[1, 0].dtype == torch.bfloat16


class Doubling:
    """Twice the kept value, plus one on the rows of low timesteps."""

    def __init__(self, widths):
        self.widths = widths

    def at(self, timesteps):
        low = torch.from_numpy((timesteps < 200).astype(np.float32))[:, None]
        return [(torch.full((len(timesteps), width), 2.0), low.expand(-1, width)) for width in self.widths]


@pytest.mark.parametrize("name", ["text u-net", "PixArt"])
def test_adjustments_scale_and_shift_reused_values_by_row(name):
    network, shape = built(name)
    block = find_blocks(network, "transformer")[0]
    original = network.get_submodule(block)
    cache, caches = RowCache(network, [block]), [SlotCache(), SlotCache()]
    outputs = []
    network.get_submodule(block).register_forward_hook(
        lambda module, given, output: outputs.append(output[0] if isinstance(output, tuple) else output)
    )
    sample = torch.randn(2, *shape)
    for compute in (True, False):
        if not compute:
            width = next(iter(caches[0].values.values())).shape[0 if name == "text u-net" else 1]
            cache.adjustment = Doubling([width])
        torch.manual_seed(7)
        with torch.inference_mode(), cache.evaluating(rows(sample, [900.0, 100.0], [[compute]] * 2, caches)):
            forward(network, shape)
    plain, adjusted = outputs
    value = torch.stack([one.values[0, 0] for one in caches])
    expected = plain + value + torch.tensor([0.0, 1.0]).view(2, *[1] * (plain.dim() - 1))
    assert (adjusted - expected).abs().max() < 1e-5
    cache.remove()
    assert network.get_submodule(block) is original


def test_unknown_and_doubly_wrapped_blocks_are_refused(unet):
    [first, *_] = find_blocks(unet, "transformer")
    with pytest.raises(ModelError, match="conv_in"):
        RowCache(unet, ["conv_in"])
    with pytest.raises(ModelError, match="twice"):
        RowCache(unet, [first, first])
    RowCache(unet, [first])
    with pytest.raises(ModelError, match="cached already"):
        RowCache(unet, [first])

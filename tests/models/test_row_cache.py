"""Blocks that reuse: which there are, what they keep, and that a call's rows do not touch one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import PixArtTransformer2DModel

import tiny_networks
from headrace.errors import ModelError
from headrace.models.blocks import block_shape, find_blocks
from headrace.models.branches import modules_of
from headrace.models.denoiser import Rows
from headrace.models.nesting import consistent
from headrace.models.row_cache import RowCache
from headrace.models.slot_cache import SlotCache
from headrace.models.wrapper import Wrapper

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


BLOCKS = ["transformer", "resnet", "cross_attention", "branch", "all"]


def blocks_of(network, kind):
    """The blocks of a kind; "all" are those of every kind, inside one another."""
    if kind == "all":
        return tuple(path for one in BLOCKS[:-1] for path in find_blocks(network, one))
    return find_blocks(network, kind)


KINDS = {
    "text u-net": (tiny_networks.text_unet, (4, 8, 8)),
    "text u-net, odd": (tiny_networks.text_unet, (4, 7, 10)),
    "text u-net, two layers": (lambda: tiny_networks.text_unet(layers_per_block=2), (4, 8, 8)),
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


def inputs_of(network, shape, count):
    """Random inputs of any of the networks, [count, ...] each."""
    given = {"sample": torch.randn(count, *shape)}
    if type(network).__name__ == "DiTTransformer2DModel":
        given["labels"] = torch.arange(count) % 3
    elif type(network).__name__ != "UNet2DModel":
        given["text"] = torch.randn(count, tiny_networks.TOKENS, tiny_networks.TEXT_WIDTH)
    if isinstance(network, PixArtTransformer2DModel):
        given["mask"] = (torch.arange(tiny_networks.TOKENS) < 4 + torch.arange(count)[:, None]).float()
    return given


def called(network, cache, asked, given):
    """The network's output for these rows."""
    with torch.inference_mode(), cache.evaluating(asked):
        return forward(network, given, asked.timestep)


def forward(network, given, timestep):
    """A call of any of the networks."""
    name, sample = type(network).__name__, given["sample"]
    if name == "UNet2DModel":
        return network(sample, timestep).sample
    if name == "UNet2DConditionModel":
        return network(sample, timestep, given["text"]).sample
    if name == "DiTTransformer2DModel":
        return network(sample, timestep=timestep, class_labels=given["labels"]).sample
    assert isinstance(network, PixArtTransformer2DModel)
    return network(
        sample,
        encoder_hidden_states=given["text"],
        encoder_attention_mask=given["mask"],
        timestep=timestep,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample


@pytest.mark.parametrize("name", KINDS)
def test_blocks_are_found_in_the_order_of_evaluation_with_their_shapes(name):
    network, shape = built(name)
    blocks = find_blocks(network, "transformer")
    resnets = find_blocks(network, "resnet")
    texts = find_blocks(network, "cross_attention")
    branches = find_blocks(network, "branch")
    assert blocks
    assert branches
    assert bool(resnets) == ("u-net" in name)
    assert bool(texts) == (name.startswith("text") or name == "PixArt")
    seen, observed = [], {}
    for path in blocks + resnets + texts:
        network.get_submodule(path).register_forward_hook(lambda *_, path=path: seen.append(path))
    last = {path: network.get_submodule(modules_of(network, path)[-1]) for path in blocks + resnets + texts + branches}
    cache = RowCache(network, tuple(last))
    cache.observer = lambda block, value: observed.update({block: tuple(value.shape[1:])})
    given = inputs_of(network, shape, 2)
    called(network, cache, rows(given["sample"], [500.0, 500.0], np.ones((2, 0)), ()), given)
    cache.remove()
    assert [path for path in seen if path in blocks] == list(blocks)
    assert [path for path in seen if path in resnets] == list(resnets)
    assert [path for path in seen if path in texts] == list(texts)
    for number, path in enumerate(last):
        assert block_shape(network.config, path, last[path], shape) == observed[number], path


def test_bytes_are_known_without_weights(unet):
    blocks = blocks_of(unet, "all")
    kept = np.ones((2, len(blocks)), bool)
    for sources in ({}, {"branch": "mean", "cross_attention": "conditional", blocks[0]: "unconditional"}):
        expected = RowCache(empty(unet), blocks, sources=sources).nbytes((4, 8, 8), kept)
        cache = RowCache(unet, blocks, sources=sources)
        sample, text = text_inputs(2)
        shared = SlotCache()
        asked = rows(sample, [500.0] * 2, np.ones((2, len(blocks))), [shared] * 2, branches=np.array([0, 1]))
        evaluate(unet, cache, asked, text)
        cache.remove()
        assert shared.nbytes == expected
        assert len(shared.values) == sum(2 if source == "own" else 1 for source in cache.sources)
        assert RowCache(empty(unet), blocks, torch.bfloat16, sources).nbytes((4, 8, 8), kept) * 2 == expected


def empty(unet):
    with torch.device("meta"):
        return type(unet).from_config(unet.config)


def test_rows_that_evaluate_everything_are_the_network_bit_for_bit(unet):
    sample, text = text_inputs(COUNT)
    timestep = torch.linspace(900, 100, COUNT)
    with torch.inference_mode():
        expected = unet(sample, timestep, text).sample
    before = dict(unet.named_modules())
    for kind in BLOCKS:
        blocks = blocks_of(unet, kind)
        cache = RowCache(unet, blocks)
        caches = [SlotCache() for _ in range(COUNT)]
        output = evaluate(unet, cache, rows(sample, timestep, np.ones((COUNT, len(blocks))), caches), text)
        assert torch.equal(output, expected)
        assert all(len(one.values) == len(blocks) for one in caches)
        cache.remove()
    assert not any(isinstance(module, Wrapper) for module in unet.modules())
    assert dict(unet.named_modules()) == before
    with torch.inference_mode():
        assert torch.equal(unet(sample, timestep, text).sample, expected)


@pytest.mark.parametrize("kind", BLOCKS)
def test_reuse_on_the_same_input_gives_the_same_output(unet, kind):
    sample, text = text_inputs(COUNT)
    timestep = np.full(COUNT, 300.0)
    blocks = blocks_of(unet, kind)
    cache, caches = RowCache(unet, blocks), [SlotCache() for _ in range(COUNT)]
    computed = evaluate(unet, cache, rows(sample, timestep, np.ones((COUNT, len(blocks))), caches), text)
    reused = evaluate(unet, cache, rows(sample, timestep, np.zeros((COUNT, len(blocks))), caches), text)
    assert (reused - computed).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["text u-net, two layers", "text u-net, odd", "pixel u-net", "DiT", "PixArt"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_row_is_the_same_alone_and_among_rows_with_other_decisions(name, kind):
    network, shape = built(name)
    blocks = blocks_of(network, kind)
    cache = RowCache(network, blocks)
    random = np.random.default_rng(0)
    decisions = np.concatenate([np.ones((1, COUNT, len(blocks)), bool), random.random((4, COUNT, len(blocks))) < 0.5])
    decisions = np.stack([consistent(decisions[:, row], cache.inside) for row in range(COUNT)], 1)
    together, alone = ([SlotCache() for _ in range(COUNT)] for _ in range(2))
    for step, compute in enumerate(decisions):
        torch.manual_seed(step)
        given = inputs_of(network, shape, COUNT)
        timestep = np.linspace(900, 100, COUNT) - 20 * step
        batched = called(network, cache, rows(given["sample"], timestep, compute, together), given)
        for row in range(COUNT):
            one = {key: value[row : row + 1] for key, value in given.items()}
            single = rows(one["sample"], timestep[row : row + 1], compute[row : row + 1], alone[row : row + 1])
            difference = (called(network, cache, single, one) - batched[row]).abs().max()
            assert difference < 1e-4, (step, row)
            assert alone[row].values.keys() == together[row].values.keys()


@pytest.mark.parametrize("name", ["text u-net, two layers", "pixel u-net", "DiT", "PixArt"])
def test_rows_that_reuse_a_branch_evaluate_nothing_of_it(name):
    network, shape = built(name)
    for path in find_blocks(network, "branch"):
        evaluated = []
        count = lambda module, given, evaluated=evaluated: evaluated.append(len(given[0]))  # noqa: E731
        hooks = [network.get_submodule(part).register_forward_pre_hook(count) for part in modules_of(network, path)]
        cache, caches = RowCache(network, [path]), [SlotCache() for _ in range(COUNT)]
        assert path in find_blocks(network, "branch")  # as before
        given = inputs_of(network, shape, COUNT)
        for computing in (range(COUNT), (1, 4), (), (0,)):
            evaluated.clear()
            compute = np.isin(np.arange(COUNT), list(computing))[:, None]
            called(network, cache, rows(given["sample"], np.full(COUNT, 500.0), compute, caches), given)
            assert evaluated == [len(computing)] * len(hooks) if computing else not evaluated
        cache.remove()
        for hook in hooks:
            hook.remove()


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


def test_both_guidance_branches_reuse_the_value_of_the_source(unet):
    [block, *_] = find_blocks(unet, "cross_attention")
    sample, text = text_inputs(3)
    branches = np.array([0, 0, 1], np.int8)  # of the first request both, of the second one only the conditional
    kept = {}
    for source in ("own", "conditional", "unconditional", "mean"):
        first, second = SlotCache(), SlotCache()
        caches = [first, second, first]
        cache = RowCache(unet, [block], sources={"cross_attention": source})
        outputs = []
        hook = unet.get_submodule(block).register_forward_hook(lambda *call, outputs=outputs: outputs.append(call[2]))
        for compute in (True, False):
            counted = [0, 2] if source == "unconditional" else [0, 1, 2]  # no value for the second request
            asked = [[compute]] * len(counted)
            given = [caches[row] for row in counted]
            evaluate(
                unet,
                cache,
                rows(sample[counted], [500.0] * len(counted), asked, given, None, branches[counted]),
                text[counted],
            )
        hook.remove()
        cache.remove()
        kept[source] = (first.values, second.values)
        computed, reused = outputs
        if source == "own":
            assert torch.equal(reused, computed)
        elif source == "conditional":
            assert torch.equal(reused, computed[[0, 1, 0]])
        elif source == "unconditional":
            assert torch.equal(reused, computed[[1, 1]])
        else:
            mean = (computed[0] + computed[2]) / 2
            assert (reused - torch.stack([mean, computed[1], mean])).abs().max() < 1e-6
    assert [sorted(first) for first, _ in kept.values()] == [[(0, 0), (0, 1)], [(0, 0)], [(0, 0)], [(0, 0)]]


def test_a_source_is_given_for_what_is_cached(unet):
    [first, *_] = find_blocks(unet, "transformer")
    cache = RowCache(unet, [first, "branch.0.1"], sources={"branch": "mean"})
    assert cache.sources == ("own", "mean")
    cache.remove()
    for sources, words in (({first: "both"}, "both"), ({"mid_block": "mean"}, "mid_block")):
        with pytest.raises(ModelError, match=words):
            RowCache(unet, [first], sources=sources)
    assert not any(isinstance(module, Wrapper) for module in unet.modules())


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
    given = inputs_of(network, shape, 2)
    for compute in (True, False):
        if not compute:
            width = next(iter(caches[0].values.values())).shape[0 if name == "text u-net" else 1]
            cache.adjustment = Doubling([width])
        called(network, cache, rows(given["sample"], [900.0, 100.0], [[compute]] * 2, caches), given)
    plain, adjusted = outputs
    value = torch.stack([one.values[0, 0] for one in caches])
    expected = plain + value + torch.tensor([0.0, 1.0]).view(2, *[1] * (plain.dim() - 1))
    assert (adjusted - expected).abs().max() < 1e-5
    cache.remove()
    assert network.get_submodule(block) is original


def test_an_adjustment_leaves_cross_attentions_and_branches_alone(unet):
    """In a cache of several kinds it is for the transformer and ResNet blocks, in their order."""
    [cross, *_] = find_blocks(unet, "cross_attention")
    mid, last = "mid_block.attentions.0", find_blocks(unet, "transformer")[-1]
    sample, text = text_inputs(2)

    def reused(blocks, reusing, widths):
        cache, caches = RowCache(unet, blocks), [SlotCache(), SlotCache()]
        evaluate(unet, cache, rows(sample, [500.0] * 2, np.ones((2, len(blocks))), caches), text)
        cache.adjustment = Doubling(widths) if widths else None
        compute = [[block not in reusing for block in blocks]] * 2
        output = evaluate(unet, cache, rows(sample, [500.0] * 2, compute, caches), text)
        cache.remove()
        return output

    widths = [unet.get_submodule(path).out_channels for path in (mid, last)]
    joined = (cross, mid, "branch.0.1", last)
    plain = reused(joined, {cross, "branch.0.1"}, None)
    assert torch.equal(reused(joined, {cross, "branch.0.1"}, widths), plain)
    assert torch.equal(reused(joined, {last}, widths), reused((last,), {last}, widths[1:]))
    assert not torch.equal(reused(joined, {last}, widths), plain)


def test_networks_without_a_branch_are_refused(unet):
    with pytest.raises(ModelError, match=r"branch\.2\.0.*branch\.0\.0, branch\.0\.1, branch\.1\.0"):
        RowCache(unet, ["branch.2.0"])
    with torch.no_grad():
        other = tiny_networks.pixel_unet(
            down_block_types=("ResnetDownsampleBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D")
        )
    assert find_blocks(other, "branch") == ()
    with pytest.raises(ModelError, match="plain U-Nets"):
        RowCache(other, ["branch.0.0"])
    transformer, _ = built("PixArt")
    for path in ("branch.0.3", "branch.1.1"):
        with pytest.raises(ModelError, match="no branch"):
            RowCache(transformer, [path])


def test_unknown_and_doubly_wrapped_blocks_are_refused(unet):
    [first, *_] = find_blocks(unet, "transformer")
    with pytest.raises(ModelError, match="conv_in"):
        RowCache(unet, ["conv_in"])
    with pytest.raises(ModelError, match="twice"):
        RowCache(unet, [first, first])
    RowCache(unet, [first])
    with pytest.raises(ModelError, match="cached already"):
        RowCache(unet, [first])

"""Scale and shift of reused values: the identity, the table they are folded into, and what a network makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reuse import artefact_of, request, timesteps_of, with_random_layers

from headrace.engine import Engine
from headrace.errors import ArtefactError
from headrace.models.pipelines.loading import load
from headrace.models.row_cache import RowCache
from headrace.techniques.block_caching import scale_shift as module
from headrace.techniques.block_caching.network import enable
from headrace.techniques.block_caching.scale_shift import FoldedScaleShift, ScaleShift, block_channels

KINDS = ["sd1", "pixart", "ddpm-classes"]
TIMESTEPS = np.array([981.0, 500.25, 500.25, 1.0])


def folded(source, timesteps=TIMESTEPS, dtype=torch.float32):
    return FoldedScaleShift(source, timesteps, torch.device("cpu"), dtype)


def test_new_layers_are_the_identity():
    found = ScaleShift([3, 5]).at(TIMESTEPS)
    assert [(tuple(scale.shape), tuple(shift.shape)) for scale, shift in found] == [((4, 3),) * 2, ((4, 5),) * 2]
    for scale, shift in found:
        assert (scale == 1).all()
        assert (shift == 0).all()


def test_a_layer_moves_its_own_block_alone_and_by_timestep():
    source = ScaleShift([3, 5])
    with torch.no_grad():
        source.layers[1].weight[:5].fill_(0.01)
        source.layers[1].bias[5:].fill_(2.0)
    (scale, shift), (other_scale, other_shift) = source.at(TIMESTEPS)
    assert (scale == 1).all()
    assert (shift == 0).all()
    assert (other_shift == 2).all()
    assert torch.equal(other_scale[1], other_scale[2])
    assert not torch.equal(other_scale[0], other_scale[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folded_equals_unfolded(dtype):
    source = with_random_layers(ScaleShift([3, 5]))
    table = folded(source, dtype=dtype)
    asked = np.array([1.0, 981.0, 981.0, 333.0, 500.25])  # one that was not given beforehand
    for mine, expected in zip(table.at(asked), source.at(asked), strict=True):
        for part, wanted in zip(mine, expected, strict=True):
            assert part.dtype == dtype
            assert torch.allclose(part, wanted.to(dtype), atol=0 if dtype == torch.bfloat16 else 1e-6)


def test_layers_are_evaluated_once_a_timestep():
    source = with_random_layers(ScaleShift([3, 5]))
    calls = []
    source.register_forward_hook(lambda layers, given, output: calls.append(len(output)))
    table = folded(source)
    for _ in range(3):
        table.at(TIMESTEPS)
        table.at(np.array([7.0, 8.0, 7.0]))
    assert calls == [3, 2]


def test_a_table_does_not_grow_without_end(monkeypatch):
    monkeypatch.setattr(module, "_MOST_FOLDED", 4)
    source = with_random_layers(ScaleShift([2]))
    table = folded(source)
    for start in range(0, 40, 2):
        asked = np.array([start + 0.5, start - 1.5, 981.0])
        assert torch.allclose(table.at(asked)[0][0], source.at(asked)[0][0], atol=1e-6)
        assert len(table._table) == len(table._places) <= 3 + 4


@pytest.fixture
def own(tiny_model):
    """Kind -> a pipeline of that tiny model that a test may change."""
    return lambda kind: load(tiny_model(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_layers_are_plain_caching_bit_for_bit(own, kind):
    asked = request(kind, seed=3)
    pictures = []
    for adjusted in (False, True):
        pipeline = own(kind)
        artefact = artefact_of(pipeline, asked)
        source = ScaleShift(block_channels(pipeline.network, artefact.blocks)) if adjusted else None
        engine = Engine(pipeline, decide=enable(pipeline, artefact, scale_shift=source))
        assert (pipeline.row_cache.adjustment is not None) == adjusted
        [result] = engine.generate([asked])
        assert not result.plan.compute.all()
        pictures.append(result.pixels)
    assert np.array_equal(*pictures)


@pytest.mark.filterwarnings("ignore:.*stretched")
@pytest.mark.parametrize("kind", KINDS)
def test_in_the_engine_folded_equals_unfolded(own, kind):
    """Requests of other step counts beside one of the schedule's, so that a call has several timesteps."""
    pipeline = own(kind)
    asked = [request(kind, seed=1), request(kind, seed=2, steps=6)]
    artefact = artefact_of(pipeline, asked[0])
    source = with_random_layers(ScaleShift(block_channels(pipeline.network, artefact.blocks)))
    decide = enable(pipeline, artefact, scale_shift=source)
    quick = Engine(pipeline, decide=decide).generate(asked)
    pipeline.row_cache.adjustment = source
    slow = Engine(pipeline, decide=decide).generate(asked)
    pipeline.row_cache.adjustment = None
    plain = Engine(pipeline, decide=decide).generate(asked)
    for mine, expected, without in zip(quick, slow, plain, strict=True):
        assert np.abs(mine.pixels.astype(int) - expected.pixels.astype(int)).max() <= 1
        assert not np.array_equal(mine.pixels, without.pixels)


def test_channels_are_those_of_tokens_and_of_maps(own):
    for kind in KINDS:
        pipeline = own(kind)
        artefact = artefact_of(pipeline, request(kind))
        expected = block_channels(pipeline.network, artefact.blocks)
        cache = RowCache(pipeline.network, artefact.blocks)
        seen = {}
        cache.observer = lambda block, value, seen=seen: seen.update({block: value.shape[1 if value.dim() == 4 else 2]})
        pipeline.row_cache = cache
        Engine(pipeline).generate([request(kind)])
        assert expected == tuple(seen[block] for block in range(len(expected)))
        assert block_channels(pipeline.network, artefact.blocks) == expected


def test_layers_of_other_blocks_are_refused_before_anything_is_changed(own):
    pipeline = own("sd1")
    artefact = artefact_of(pipeline, request("sd1"))
    wrong = ScaleShift([count + 1 for count in block_channels(pipeline.network, artefact.blocks)])
    with pytest.raises(ArtefactError, match="channels"):
        enable(pipeline, artefact, scale_shift=wrong)
    assert pipeline.row_cache is None


def test_the_timesteps_of_the_schedule_are_folded_beforehand(own):
    pipeline = own("sd1")
    artefact = artefact_of(pipeline, request("sd1"))
    source = ScaleShift(block_channels(pipeline.network, artefact.blocks))
    decide = enable(pipeline, artefact, scale_shift=source)
    calls = []
    source.register_forward_hook(lambda layers, given, output: calls.append(len(output)))
    Engine(pipeline, decide=decide).generate([request("sd1")])
    assert calls == []
    assert set(pipeline.row_cache.adjustment._places) == set(timesteps_of(artefact).tolist())

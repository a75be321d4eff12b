"""Pipelines that reuse their deep branch and their cross-attentions, run by the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headrace.engine import Engine
from headrace.errors import ModelError, PlanError
from headrace.models.blocks import find_blocks
from headrace.models.nesting import skipped
from headrace.models.pipelines.loading import load
from headrace.models.row_cache import attached
from headrace.request import Request
from headrace.techniques.postdiff.network import default_branch, enable, fill
from headrace.techniques.postdiff.schedule import mixed_resolution

FAMILIES = ["sd1", "sdxl", "pixart", "dit", "ddpm-classes"]


def request(kind, **settings):
    own = {"class_label": 1} if kind in ("dit", "ddpm-classes") else {"prompt": "red apple"}
    return Request(**own, **({"steps": 4, "solver": "ddim", "seed": 4} | settings))


def picture(engine, asked):
    [result] = engine.generate([asked])
    assert result.error is None
    return result


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_reuses_and_its_network_does_less(tiny_model, tiny_pipeline, kind):
    pipeline = load(tiny_model(kind))
    deep = default_branch(pipeline.network)
    texts = find_blocks(pipeline.network, "cross_attention")
    inner = pipeline.network.get_submodule(
        "mid_block" if hasattr(pipeline.network, "mid_block") else "transformer_blocks.1"
    )
    calls = []
    inner.register_forward_hook(lambda *_: calls.append(1))
    engine = Engine(pipeline, decide=enable(pipeline))
    asked = request(kind)
    result = picture(engine, asked)
    assert pipeline.row_cache.blocks == (deep, *texts)
    assert bool(texts) == (kind in ("sd1", "sdxl", "pixart"))
    assert len(calls) == 2
    assert not np.array_equal(result.pixels, picture(Engine(tiny_pipeline(kind)), asked).pixels)


@pytest.mark.parametrize("kind", FAMILIES)
def test_evaluating_everything_changes_no_bit(tiny_model, tiny_pipeline, kind):
    pipeline = load(tiny_model(kind))
    enable(pipeline)  # what it returns is not used: no plan decides on blocks
    assert np.array_equal(
        picture(Engine(pipeline), request(kind)).pixels, picture(Engine(tiny_pipeline(kind)), request(kind)).pixels
    )


def test_the_branch_that_cross_attention_reuses_is_chosen(tiny_model):
    pictures, sizes = {}, {}
    asked = request("sd1", guidance_scale=5.0)
    for source in ("own", "conditional", "unconditional", "mean"):
        pipeline = load(tiny_model("sd1"))
        engine = Engine(pipeline, decide=enable(pipeline, 1, 0.5, source=source))
        pictures[source] = picture(engine, asked).pixels.tobytes()
        sizes[source] = pipeline.row_cache.nbytes((4, 8, 8), np.ones((2, len(pipeline.row_cache.blocks)), bool))
    assert len(set(pictures.values())) == 4
    assert sizes["own"] == 2 * sizes["conditional"] == 2 * sizes["unconditional"] == 2 * sizes["mean"]


def test_guidance_that_is_dropped_reuses_the_conditional_value(tiny_model):
    pipeline = load(tiny_model("sd1"))
    fill = enable(pipeline, 2, 0.5)

    def decide(plan):
        return fill(plan.with_columns(guidance=np.where(np.arange(len(plan)) < 2, plan.guidance, 1.0)))

    assert picture(Engine(pipeline, decide=decide), request("sd1", guidance_scale=5.0)).error is None


def test_it_joins_mixed_resolution_and_another_techniques_decisions(tiny_model):
    """Blocks of all kinds in one cache: residual blocks decided before, and latents that change their size."""
    pipeline = load(tiny_model("sd1"))
    network = pipeline.network
    residual = find_blocks(network, "transformer")
    blocks = (*residual, default_branch(network), *find_blocks(network, "cross_attention"))

    def decide(plan):
        plan = mixed_resolution(plan, 0.5, 0.5)
        others = np.ones((len(plan), len(residual)), bool)
        others[[1, 2, 7, 8]] = False
        return fill(plan.with_columns(compute=others), cache)

    with attached(pipeline, blocks, {"cross_attention": "conditional"}) as cache:
        engine = Engine(pipeline, decide=decide)
        asked = [request("sd1", steps=12, guidance_scale=5.0, seed=seed) for seed in range(2)]
        plan = engine.plan(asked[0])
        assert plan.compute[:, len(residual)].tolist() == [True, False] * 6
        assert plan.compute[6].all()  # at full size from here on
        # The last cross-attention lies in no branch, but in a transformer that reuses in rows 7 and 8: it is evaluated
        # until row 9, as it was not in the two before.
        assert np.flatnonzero(skipped(plan.compute, cache.inside)[:, -1]).tolist() == [10, 11]
        together = engine.generate(asked)
        for one, result in zip(asked, together, strict=True):
            alone = picture(Engine(pipeline, decide=decide), one)
            assert np.abs(result.pixels.astype(int) - alone.pixels.astype(int)).max() <= 1


def test_values_of_the_unconditional_branch_are_refused_without_guidance(tiny_model):
    pipeline = load(tiny_model("sd1"))
    engine = Engine(pipeline, decide=enable(pipeline, 2, 0.5, source="unconditional"))
    with pytest.raises(PlanError, match="without guidance"):
        engine.submit(request("sd1", guidance_scale=1.0))
    assert not engine.busy


def test_what_cannot_be_cached_is_refused_before_anything_is_changed(tiny_model):
    pipeline = load(tiny_model("sd1"))
    with pytest.raises(PlanError, match="every 0"):
        enable(pipeline, 0)
    with pytest.raises(PlanError, match=r"1\.5"):
        enable(pipeline, 2, 1.5)
    with pytest.raises(ModelError, match=r"branch\.7\.0"):
        enable(pipeline, branch="branch.7.0")
    with pytest.raises(ModelError, match="nothing"):
        enable(pipeline, 1, 1.0)
    with pytest.raises(ModelError, match="source"):
        enable(pipeline, source="both")
    with pytest.raises(ModelError, match="Linear has no deep branch"):
        default_branch(torch.nn.Linear(1, 1))
    assert pipeline.row_cache is None
    enable(pipeline, 1, 0.5)
    with pytest.raises(ModelError, match="already"):
        enable(pipeline)

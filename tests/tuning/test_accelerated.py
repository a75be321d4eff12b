"""Settings put on a pipeline and taken off: nothing at all where they are plain, every technique where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.errors import ModelError, TuningError
from headrace.models.blocks import find_blocks
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.block_caching.schedule import Schedule
from headrace.tuning.accelerated import accelerated, attach
from headrace.tuning.settings import Settings

STEPS = 6
EVERYTHING = Settings(
    solver="ddim", steps=STEPS, guidance_share=0.5, low_share=0.5, low_scale=0.5, deep_interval=2, cross_share=0.5,
    block_saving=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def pipeline(tiny_model):
    return load(tiny_model("sd1"))


def asked(seed=0, steps=STEPS):
    return Request(prompt="red apple", steps=steps, solver="ddim", guidance_scale=4.0, seed=seed)


def schedule(pipeline, steps=STEPS):
    """Every transformer in every second row."""
    plan = Engine(pipeline).plan(asked(steps=steps))
    blocks = find_blocks(pipeline.network, "transformer")
    return Schedule(blocks, plan.timestep, np.tile((np.arange(len(plan)) % 2 == 0)[:, None], (1, len(blocks))))


def test_plain_settings_change_no_bit_and_leave_the_pipeline_alone(pipeline):
    [expected] = Engine(pipeline).generate([asked()])
    modules = [type(module) for module in pipeline.network.modules()]
    with accelerated(pipeline, Settings(solver="ddim", steps=STEPS)) as decide:
        assert pipeline.row_cache is None
        [found] = Engine(pipeline, decide=decide).generate([asked()])
    assert np.array_equal(found.pixels, expected.pixels)
    assert found.plan == expected.plan
    assert [type(module) for module in pipeline.network.modules()] == modules


def test_everything_at_once_is_carried_out_and_undone(pipeline):
    [plain] = Engine(pipeline).generate([asked()])
    modules = [name for name, _ in pipeline.network.named_modules()]
    with accelerated(pipeline, EVERYTHING, schedule(pipeline)) as decide:
        [found] = Engine(pipeline, decide=decide).generate([asked()])
        kinds = set(pipeline.row_cache.kinds)
    assert kinds == {"transformer", "branch", "cross_attention"}
    assert found.plan.guidance.tolist() == [4.0] * 3 + [1.0] * 3
    assert found.plan.scale.tolist() == [0.5] * 3 + [1.0] * 3
    assert not found.plan.compute.all()
    assert found.plan.compute[3].all()
    assert not np.array_equal(found.pixels, plain.pixels)
    assert pipeline.row_cache is None
    assert [name for name, _ in pipeline.network.named_modules()] == modules
    [again] = Engine(pipeline).generate([asked()])
    assert np.array_equal(again.pixels, plain.pixels)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    guidance_share=st.floats(0, 1), low_share=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    deep_interval=st.integers(1, 4), cross_share=st.floats(0, 1), block_saving=st.sampled_from([0.0, 0.2]),
)  # fmt: skip
def test_any_combination_is_a_plan_that_the_engine_accepts(pipeline, **values):
    chosen = Settings(solver="ddim", steps=STEPS, **values)
    with accelerated(pipeline, chosen, schedule(pipeline)) as decide:
        engine = Engine(pipeline, decide=decide)
        engine.submit(asked())  # checks the plan
        plan = engine.plan(asked())
    assert plan.network_rows == STEPS + round(chosen.guidance_share * STEPS)
    assert pipeline.row_cache is None


def test_what_cannot_be_attached_is_refused_before_any_change(pipeline, tiny_pipeline):
    with pytest.raises(TuningError, match="no schedule"):
        attach(pipeline, EVERYTHING)
    with pytest.raises(ModelError, match="no cross-attention"):
        attach(tiny_pipeline("ddim"), Settings(cross_share=0.5))
    with accelerated(pipeline, EVERYTHING, schedule(pipeline)), pytest.raises(ModelError, match="already"):
        attach(pipeline, Settings(deep_interval=2))
    assert pipeline.row_cache is None


def test_an_error_inside_takes_everything_off(pipeline):
    with pytest.raises(KeyError), accelerated(pipeline, Settings(deep_interval=2)):
        raise KeyError(pipeline.row_cache)
    assert pipeline.row_cache is None


def test_a_schedule_of_the_deep_branch_is_followed_whatever_the_interval(pipeline):
    plan = Engine(pipeline).plan(asked())
    compute = np.array([[True], [False], [False], [True], [True], [False]])
    branch = Schedule(find_blocks(pipeline.network, "branch")[:1], plan.timestep, compute)
    found = []
    for interval in (1, 2):
        chosen = Settings(
            solver="ddim", steps=STEPS, deep_interval=interval, cross_share=0.5, block_saving=0.2, block_kind="branch"
        )
        with accelerated(pipeline, chosen, branch) as decide:
            found.append(decide(plan))
            assert pipeline.row_cache.kinds.count("branch") == 1
    assert np.array_equal(found[0].compute[:, 0], compute[:, 0])
    assert found[0] == found[1]

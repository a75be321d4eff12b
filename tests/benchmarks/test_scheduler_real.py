"""What the real part of the scheduler's benchmark plans with."""

from __future__ import annotations

import pytest

from headrace.benchmarks._scheduler.own_house import Effort, own_house, own_mix
from headrace.models.pipelines.loading import load
from headrace.serving.arrivals import Mix

EFFORT = Effort(slots=2, sizes=1, steps=(2, 3), repeats=1, pictures=2, starts=2)


@pytest.fixture(scope="module")
def pipeline(tiny_model):
    return load(tiny_model("sd1"))


def test_what_the_policies_plan_with_is_measured_on_this_machine(pipeline):
    mix = own_mix(pipeline, EFFORT)
    house = own_house(pipeline, mix, EFFORT, 0.5, lambda name, share: None)
    [size] = mix.sizes
    assert size == pipeline.default_size
    assert house.floor == 0.5
    assert float(house.table.unet_s(size, 2)) > 0
    assert house.window is not None
    assert len(house.window.starts) == EFFORT.starts


def test_sizes_are_multiples_that_the_model_takes(pipeline):
    mix = own_mix(pipeline, Effort(slots=2, sizes=3, steps=(20, 50), repeats=1, pictures=2, starts=2))
    assert isinstance(mix, Mix)
    assert len(set(mix.sizes)) == 3
    assert all(side % pipeline.size_multiple == 0 for size in mix.sizes for side in size)

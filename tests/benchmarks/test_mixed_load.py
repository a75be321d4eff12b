import pytest

from engine.fake_pipeline import FakePipeline
from headrace.benchmarks import _mixed_load as menu
from headrace.benchmarks._contestants import cost, groups
from headrace.errors import UnsupportedModelError
from headrace.models import solvers
from headrace.models.pipelines.loading import load


@pytest.fixture(scope="module")
def pipeline(tiny_model):
    return load(tiny_model("sd1"))


def test_the_load_is_mixed_valid_and_always_the_same(pipeline):
    requests = menu.mixed_load(64, pipeline)
    assert requests == menu.mixed_load(64, pipeline)
    assert requests != menu.mixed_load(64, pipeline, seed=1)
    for request in requests:
        pipeline.check(request)
    for field, values in (("solver", menu.SOLVERS), ("steps", menu.STEPS), ("guidance_scale", menu.GUIDANCE)):
        assert {getattr(request, field) for request in requests} == set(values)
    assert len({request.prompt for request in requests[:40]}) == 40
    own_size = [(request.height, request.width) == pipeline.default_size for request in requests]
    assert 16 <= sum(own_size) <= 48


def test_every_solver_of_the_menu_is_known():
    assert {solvers.resolve(name).name for name in menu.SOLVERS} == set(menu.SOLVERS)


def test_a_model_without_prompts_is_refused():
    with pytest.raises(UnsupportedModelError, match="fake"):
        menu.mixed_load(2, FakePipeline())


def test_groups_hold_equal_settings_and_every_request_once(pipeline):
    requests = menu.mixed_load(20, pipeline) * 3
    found = groups(requests, largest=2)
    assert sorted(index for group in found for index in group) == list(range(60))
    assert max(len(group) for group in found) == 2
    for group in found:
        assert len({menu.settings_key(requests[index]) for index in group}) == 1


def test_cost_counts_network_evaluations(pipeline):
    request = menu.mixed_load(1, pipeline)[0].model_copy(update={"steps": 10, "solver": "heun", "guidance_scale": 4.0})
    assert cost(request) == 38
    assert cost(request.model_copy(update={"solver": "ddim", "guidance_scale": 1.0})) == 10

"""Several accelerations in one engine: each request as in an engine with its own alone, or with none."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from fake_pipeline import FakePipeline

from headrace.engine import Engine, EngineSettings
from headrace.engine.acceleration import Decisions, attach_all
from headrace.errors import ModelError, PlanError, RequestError
from headrace.models.blocks import find_blocks
from headrace.models.branches import find_branches
from headrace.models.pipelines.loading import load
from headrace.models.row_cache import RowCache
from headrace.request import Request
from headrace.techniques.guidance.schedule import cut_off

STEPS = 6


@dataclass(frozen=True)
class Reuses:
    """Evaluates blocks of a kind every so many rows; `scaled` multiplies what is reused."""

    kind: str
    interval: int
    scaled: float | None = None
    defaults: dict = field(default_factory=dict)
    identity = "test"

    def attach(self, pipeline):
        cache = pipeline.row_cache = RowCache(pipeline.network, self.blocks(pipeline))
        if self.scaled is not None:
            cache.adjustment = Scaled(cache, self.scaled)

        def decide(plan):
            every = np.arange(len(plan)) % self.interval == 0
            return plan.with_columns(compute=np.repeat(every[:, None], len(cache.blocks), axis=1))

        return decide

    def blocks(self, pipeline):
        if self.kind == "branch":
            return find_branches(pipeline.network)[:1]
        return find_blocks(pipeline.network, self.kind)


class Scaled:
    """An adjustment: every reused value times a number."""

    def __init__(self, cache, factor):
        self._channels = [_channels(cache, path) for path in np.array(cache.blocks)[list(cache.adjusted)]]
        self._factor = factor

    def at(self, timesteps):
        import torch

        return [
            (torch.full((len(timesteps), count), self._factor), torch.zeros(len(timesteps), count))
            for count in self._channels
        ]


def _channels(cache, path):
    block = cache._network.get_submodule(path).block
    return block.out_channels if hasattr(block, "out_channels") else block.in_channels


@dataclass(frozen=True)
class CutsGuidance:
    """Leaves the pipeline as it is."""

    defaults: dict = field(default_factory=dict)
    identity = "test"

    def attach(self, pipeline):
        return lambda plan: cut_off(plan, 0.5)


KINDS = {
    "blocks": Reuses("transformer", 2),
    "rarely": Reuses("transformer", 3),
    "adjusted": Reuses("transformer", 2, 0.5),
    "deep": Reuses("branch", 2),
    "text": Reuses("cross_attention", 4),
    "cut": CutsGuidance(),
}


def asked(seed=0, **changes):
    return Request(
        **({"prompt": "red apple", "steps": STEPS, "solver": "ddim", "guidance_scale": 4.0} | changes), seed=seed
    )


def run(engine, *jobs):
    tickets = [engine.enqueue(job) for job in jobs]
    while engine.busy:
        engine.step()
    results = {result.number: result for result in engine.collect()}
    return [results[ticket] for ticket in tickets]


@pytest.fixture(scope="module")
def shared(tiny_model):
    pipeline = load(tiny_model("sd1"))
    return Engine(pipeline, accelerations=attach_all(pipeline, KINDS))


@pytest.fixture(scope="module")
def alone(tiny_model):
    """Pictures of engines with one acceleration each, and with none."""
    pictures = {}
    for name in [None, *KINDS]:
        pipeline = load(tiny_model("sd1"))
        decide = None if name is None else KINDS[name].attach(pipeline)
        pictures[name] = run(engine := Engine(pipeline, decide=decide), engine.prepare(asked()))[0]
    return pictures


@pytest.mark.parametrize("name", [None, *KINDS])
def test_alone_in_its_call_a_request_is_exactly_what_it_is_in_an_engine_of_its_own(shared, alone, name):
    [found] = run(shared, shared.prepare(asked(), acceleration=name))
    assert np.array_equal(found.pixels, alone[name].pixels)
    assert found.settings.get("acceleration") == name
    assert (found.plan.compute.all(axis=1) == alone[name].plan.compute.all(axis=1)).all()


def test_accelerations_differ_from_one_another(alone):
    assert len({result.pixels.tobytes() for result in alone.values()}) == len(alone)


def test_all_of_them_share_calls(shared, alone):
    names = [None, *KINDS, *KINDS, None]
    for name in names:
        shared.enqueue(shared.prepare(asked(), acceleration=name))
    reports = []
    while shared.busy:
        reports.append(shared.step())
    assert [report.calls for report in reports] == [1] * STEPS
    for name, result in zip(names, sorted(shared.collect(), key=lambda one: one.number), strict=True):
        difference = np.abs(result.pixels.astype(int) - alone[name].pixels.astype(int))
        assert difference.max() <= 2, name


def test_a_slot_has_room_for_the_greediest_and_who_keeps_less_is_counted_less(tiny_model):
    pipelines = {name: load(tiny_model("sd1")) for name in KINDS}
    singles = {}
    for name, pipeline in pipelines.items():
        engine = Engine(pipeline, EngineSettings(slots=1), KINDS[name].attach(pipeline))
        singles[name] = engine.prepare(asked()).cache_bytes, engine._pool.budget_bytes
    pipeline = load(tiny_model("sd1"))
    engine = Engine(pipeline, EngineSettings(slots=1), accelerations=attach_all(pipeline, KINDS))
    for name in KINDS:
        assert engine.prepare(asked(), acceleration=name).cache_bytes == singles[name][0]
    assert engine.prepare(asked()).cache_bytes == 0
    assert engine._pool.budget_bytes == max(budget for _, budget in singles.values())


def test_each_has_its_own_defaults(tiny_model):
    pipeline = load(tiny_model("sd1"))
    named = attach_all(pipeline, {"short": Reuses("transformer", 2, defaults={"steps": 3}), "cut": CutsGuidance()})
    engine = Engine(pipeline, defaults={"steps": 7}, accelerations=named)
    request = Request(prompt="red apple", solver="ddim")
    assert len(engine.plan(request, "short")) == 3
    assert len(engine.prepare(request).plan) == 7
    assert len(engine.plan(request, "cut")) == request.steps
    assert len(engine.plan(request.model_copy(update={"steps": 4}), "short")) == 4


def test_an_acceleration_that_there_is_not_is_refused():
    engine = Engine(FakePipeline(), accelerations={"fast": Decisions()})
    with pytest.raises(RequestError, match=r"no acceleration 'slow' here\. Name one of: fast") as refused:
        engine.prepare(asked(), acceleration="slow")
    assert refused.value.field == "acceleration"


def test_what_cannot_be_attached_leaves_the_pipeline_as_it_was(tiny_model):
    class Refuses(CutsGuidance):
        def attach(self, pipeline):
            raise ModelError("no", "no")

    pipeline = load(tiny_model("sd1"))
    modules = [name for name, _ in pipeline.network.named_modules()]
    with pytest.raises(ModelError):
        attach_all(pipeline, {"blocks": KINDS["blocks"], "not": Refuses()})
    assert pipeline.row_cache is None
    assert [name for name, _ in pipeline.network.named_modules()] == modules
    attach_all(pipeline, {"cut": KINDS["cut"]})
    assert pipeline.row_cache is None
    attach_all(pipeline, {"blocks": KINDS["blocks"]})
    with pytest.raises(ModelError, match="caches blocks already"):
        attach_all(pipeline, {"rarely": KINDS["rarely"]})
    pipeline.row_cache.remove()
    assert [name for name, _ in pipeline.network.named_modules()] == modules


def test_a_plan_follows_one_of_them(shared):
    one, other = (shared.plan(asked(), name) for name in ("blocks", "deep"))
    both = one.with_columns(compute=one.compute & other.compute)
    with pytest.raises(PlanError, match="by more than one cache"):
        shared.prepare(asked(), both)

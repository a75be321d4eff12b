"""The policies on the engine that they are made for: nothing is lost, no picture differs but for what is on record."""

import numpy as np
import pytest
from tables import contended

from engine.fake_pipeline import FakePipeline
from headrace.engine import Engine, EngineSettings
from headrace.request import Request
from headrace.serving.loop import Loop
from headrace.serving.scheduler import ABLATIONS, POLICIES, make_policy
from headrace.serving.skip_window import SkipWindow

PATIENCE_S = 60
SIZES = ((16, 16), (24, 24), (32, 32))
WINDOW = SkipWindow(
    starts=(0.0, 0.5, 0.8), shares=(0.1, 0.5), similarity=((0.5, 0.1), (0.95, 0.9), (1.0, 0.97))
)  # fmt: skip
VARIANTS = [
    *((name, {}) for name in POLICIES if name != "dynamic"),
    ("dynamic", {"window_s": 0.01}),
    *(("synergetic", {ablation: False}) for ablation in ABLATIONS),
]


def asked(count):
    return [
        Request(
            prompt="apple"[: 2 + i % 3],
            steps=3 + i % 5,
            solver=["ddim", "euler", "dpm++2m"][i % 3],
            height=SIZES[i % 3][0],
            width=SIZES[i % 3][1],
            seed=i,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("lane", ["interleaved", "threads"])
def test_every_policy_serves_every_request(name, options, lane):
    requests = asked(14)
    house = EngineSettings(slots=5, memory_bytes=1 << 24, lane=lane, encode_ahead=True)
    engine = Engine(FakePipeline(), house)
    policy = make_policy(name, contended(lane, SIZES), WINDOW, **options)
    with Loop(engine, policy) as loop:
        served = [loop.submit(request, priority=index % 2) for index, request in enumerate(requests)]
        served = [future.result(PATIENCE_S) for future in served]
    engine.close()
    for one, request in zip(served, requests, strict=True):
        assert one.result.error is None
        assert one.arrived <= one.started <= one.denoised <= one.finished
        plain = Engine(FakePipeline())
        ticket = plain.submit(request, one.result.plan)
        while plain.busy:
            plain.step()
        [reference] = plain.collect()
        assert reference.number == ticket
        assert np.abs(one.result.pixels.astype(int) - reference.pixels.astype(int)).max() <= 1
        skipped = np.flatnonzero(one.result.plan.guidance == 1).tolist()
        assert len(skipped) == one.task.skips
        assert one.result.settings.get("unguided_rows", []) == skipped
        if skipped:
            assert one.task.first_skip == skipped[0] / len(one.result.plan)
            assert one.task.first_skip >= 0.5  # below, no tau of the controller's allows any
    if name != "synergetic" or not options.get("skipping", True):
        assert not any(one.task.skips for one in served)


def test_slots_by_memory_hold_large_pictures_back_and_lose_none():
    """A picture of four times the area takes four slots, of which the policy knows nothing."""
    for name in POLICIES:
        engine = Engine(FakePipeline(), EngineSettings(slots=5))
        with Loop(engine, make_policy(name, contended("interleaved", SIZES))) as loop:
            served = [loop.submit(request) for request in asked(9)]
            assert all(one.result(PATIENCE_S).result.error is None for one in served)

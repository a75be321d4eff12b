"""Requests that go on in another loop from where one left them."""

import pytest
from fake_policies import Greedy

from engine.fake_pipeline import FakePipeline
from headrace.engine import Engine
from headrace.errors import ServingError
from headrace.request import Request
from headrace.serving.loop import Loop
from headrace.serving.policies.sequential import Sequential
from headrace.serving.served import Previews

PATIENCE_S = 30


def asked(seed=0, **changes):
    return Request(prompt="red apple", **({"solver": "euler-a", "steps": 6, "seed": seed} | changes))


def interrupted(requests, policy, turns):
    """Snapshots of the requests after so many turns, taken by who drives the loop."""
    loop = Loop(Engine(FakePipeline()), policy, clock=lambda: 0.0)
    pending = [loop.submit(request) for request in requests]
    for _ in range(turns):
        loop.turn()
    snapshots = [loop.snapshot(one.number) for one in pending]
    loop.stop(drain=False)
    with pytest.raises(ServingError):
        pending[0].result(0)
    return snapshots


@pytest.mark.parametrize("turns", [0, 2, 6])
@pytest.mark.parametrize("policy", [Greedy, Sequential])
def test_a_loop_takes_up_what_another_one_left(policy, turns):
    requests = [asked(seed) for seed in range(3)]
    snapshots = interrupted(requests, policy(), turns)
    assert (snapshots[0] is None) == (turns == 0)
    with Loop(Engine(FakePipeline()), policy()) as loop:
        pending = [
            loop.submit(request, snapshot=snapshot) for request, snapshot in zip(requests, snapshots, strict=True)
        ]
        served = [one.result(PATIENCE_S) for one in pending]
    for one, request in zip(served, requests, strict=True):
        [reference] = Engine(FakePipeline()).generate([request])
        assert (one.result.pixels == reference.pixels).all()
        assert one.arrived <= one.started <= one.denoised <= one.finished


def test_snapshots_can_be_taken_in_watch_after_every_round():
    seen = {}

    def watch(state, decided, report):
        for number in decided.rows:
            seen.setdefault(number, []).append(loop.snapshot(number))

    loop = Loop(Engine(FakePipeline()), Sequential(), watch=watch)
    with loop:
        pending = loop.submit(asked())
        pending.result(PATIENCE_S)
    assert [snapshot.row for snapshot in seen[pending.number]] == [1, 2, 3, 4, 5, 6]


def test_skips_before_the_fault_still_count():
    [snapshot] = interrupted([asked(guidance_scale=3.0)], Greedy(skip=True), 5)
    assert (snapshot.plan.guidance != 1).tolist() == [True, True, True, False, False, True]
    with Loop(Engine(FakePipeline()), Greedy(skip=True)) as loop:
        served = loop.submit(asked(guidance_scale=3.0), snapshot=snapshot).result(PATIENCE_S)
    assert (served.task.skips, served.task.first_skip) == (3, 0.5)
    assert served.result.settings["unguided_rows"] == [3, 4, 5]


def test_previews_reach_who_asked_and_one_who_raises_hears_no_more():
    seen, broken = [], []

    def smash(preview):
        broken.append(preview)
        raise RuntimeError("no")

    with Loop(Engine(FakePipeline()), Greedy()) as loop:
        first = loop.submit(asked(0), previews=Previews(2, seen.append))
        second = loop.submit(asked(1), previews=Previews(2, smash))
        results = [one.result(PATIENCE_S).result for one in (first, second)]
    assert [(preview.number, preview.row) for preview in seen] == [(first.number, 2), (first.number, 4)]
    assert len(broken) == 1
    assert all(result.error is None for result in results)

"""Pictures of requests on their way."""

import numpy as np
import pytest
import torch
from fake_pipeline import FakePipeline
from fused_pipeline import FusedPipeline

from headrace.engine import Engine, EngineSettings, Order
from headrace.engine.previews import spread
from headrace.errors import RequestError
from headrace.request import Request
from headrace.techniques.postdiff.schedule import mixed_resolution


class Counting(FakePipeline):
    """Lists the batches that are decoded whole; previews are."""

    def __init__(self, **options):
        super().__init__(**options)
        self.decoded = []

    def decode(self, latents):
        self.decoded.append(tuple(latents.shape))
        return super().decode(latents)


def asked(**changes):
    return Request(**({"prompt": "red apple", "solver": "ddim", "steps": 6, "guidance_scale": 1.0} | changes))


def previewed(engine, *requests, previews, plan=None):
    """Results by ticket and previews in the order in which they came."""
    seen = []
    engine.on_preview = seen.append
    for request in requests:
        engine.enqueue(engine.prepare(request, plan, previews=previews))
    while engine.busy:
        engine.step()
    return {result.number: result for result in engine.collect()}, seen


@pytest.mark.parametrize(
    ("count", "rows", "after"),
    [(0, 9, []), (1, 2, [1]), (3, 8, [2, 4, 6]), (3, 50, [12, 25, 38]), (3, 1, []), (3, 2, [1]), ((5, 2), 5, [2, 5])],
)
def test_previews_are_spread_over_the_rows_and_none_is_of_the_last(count, rows, after):
    assert sorted(spread(count, rows)) == after


@pytest.mark.parametrize("count", [-1, [0], [7]])
def test_rows_that_there_are_not_are_refused(count):
    engine = Engine(FakePipeline())
    with pytest.raises(RequestError):
        engine.prepare(asked(), previews=count)


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m", "euler-a", "ddpm"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_preview_is_the_data_prediction_decoded(solver, guidance):
    pipeline, request = FakePipeline(), asked(solver=solver, guidance_scale=guidance)
    engine = Engine(pipeline)
    ticket = engine.submit(request)
    for _ in range(2):
        engine.step()
    snapshot, plan = engine.snapshot(ticket), engine.plan(request)
    x = torch.tensor(snapshot.latents)
    branches = [
        torch.tanh(x * plan.input_scale[2] + words / 20 + plan.timestep[2] / 1000) for words in (len(request.prompt), 0)
    ]
    output = branches[1] + guidance * (branches[0] - branches[1])
    data = (plan.data_p[2] * x + plan.data_q[2] * output).clamp(*plan.clip[2])
    expected = pipeline.decode(data[None].float())[0].numpy()
    _, [preview] = previewed(Engine(FakePipeline()), request, previews=[3])
    assert (preview.index, preview.row, preview.rows) == (0, 3, 6)
    assert np.abs(preview.pixels.astype(int) - expected.astype(int)).max() <= 1


def test_previews_come_closer_and_the_last_one_is_the_picture(tiny_pipeline):
    pipeline = tiny_pipeline("ddpm")
    request = Request(solver="ddpm", steps=6)
    results, seen = previewed(Engine(pipeline), request, previews=range(1, 7))
    [picture] = [result.pixels.astype(int) for result in results.values()]
    off = [np.abs(preview.pixels.astype(int) - picture).mean() for preview in seen]
    assert [preview.row for preview in seen] == [1, 2, 3, 4, 5, 6]
    assert [preview.index for preview in seen] == [0, 1, 2, 3, 4, 5]
    assert off[-1] < 1
    assert off[-1] < off[2] < off[0]


def test_who_asks_for_none_pays_nothing_and_pictures_are_the_same():
    plain, watched = Counting(), Counting()
    requests = [asked(seed=seed) for seed in range(4)]
    expected = Engine(plain).generate(requests)
    results, seen = previewed(Engine(watched), *requests, previews=2)
    assert plain.decoded == [(4, 3, 8, 8)]
    assert watched.decoded == [(4, 3, 8, 8)] * 3  # those of one round together
    assert watched.calls == plain.calls
    assert len(seen) == 8
    for result, reference in zip(results.values(), expected, strict=True):
        assert (result.pixels == reference.pixels).all()


def test_a_batch_of_previews_is_as_large_as_the_decoders():
    pipeline = Counting()
    engine = Engine(pipeline, EngineSettings(decode_batch=3))
    _, seen = previewed(engine, *[asked(seed=seed) for seed in range(4)], previews=[2])
    assert [shape[0] for shape in pipeline.decoded] == [3, 1, 3, 1]
    assert len({preview.pixels.tobytes() for preview in seen}) == 4


@pytest.mark.parametrize("lane", ["interleaved", "threads"])
def test_previews_come_before_the_picture_in_every_lane(lane):
    engine = Engine(FakePipeline(), EngineSettings(lane=lane, slots=2))
    order = []
    engine.on_preview = lambda preview: order.append((preview.number, preview.row))
    engine.on_result = lambda result: order.append((result.number, "picture"))
    for seed in range(5):
        engine.enqueue(engine.prepare(asked(seed=seed), previews=2))
    while engine.busy:
        engine.step()
    engine.close()
    for number in range(5):
        assert [what for who, what in order if who == number] == [2, 4, "picture"]


def test_a_preview_that_cannot_be_made_fails_nobody():
    pipeline = FakePipeline()
    engine = Engine(pipeline)
    seen = []
    engine.on_preview = seen.append
    bad = engine.enqueue(engine.prepare(asked(height=24), previews=[2, 4]))
    good = engine.enqueue(engine.prepare(asked(), previews=[2, 4]))
    pipeline.undecodable = lambda latents: latents.shape[-2] == 12
    for _ in range(6):
        engine.step(Order(decode=[]))
    pipeline.undecodable = None
    while engine.busy:
        engine.step()
    assert [(preview.number, preview.row) for preview in seen] == [(good, 2), (good, 4)]
    assert engine.previews_failed == 2
    assert {result.number: result.error for result in engine.collect()} == {bad: None, good: None}


def test_a_request_that_breaks_has_no_preview():
    engine = Engine(FakePipeline())
    results, seen = previewed(engine, asked(), asked(prompt="nan"), previews=[1, 2])
    assert {preview.number for preview in seen} == {0}
    assert results[0].error is None
    assert results[1].error is not None


def test_small_rows_are_shown_at_full_size():
    pipeline = Counting(size=32)
    request = asked(width=40)
    plan = mixed_resolution(Engine(pipeline).plan(request), 0.5, 0.5)
    results, seen = previewed(Engine(pipeline), request, previews=[2, 5], plan=plan)
    assert [preview.pixels.shape for preview in seen] == [(32, 40, 3)] * 2
    assert pipeline.decoded[0] == (1, 3, 8, 10)
    assert results[0].pixels.shape == (32, 40, 3)


def test_of_several_pictures_the_first_is_shown():
    results, seen = previewed(Engine(FusedPipeline(pictures=2)), asked(), asked(seed=1), previews=[5])
    assert [preview.pixels.shape for preview in seen] == [(16, 16, 3)] * 2
    for preview in seen:
        result = results[preview.number]
        first, second = (np.abs(preview.pixels.astype(int) - one).mean() for one in (result.pixels, result.others[0]))
        assert first < second


def test_a_request_that_goes_on_has_the_previews_that_are_left():
    request, engine = asked(), Engine(FakePipeline())
    ticket = engine.submit(request)
    for _ in range(4):
        engine.step()
    other, seen = Engine(FakePipeline()), []
    other.on_preview = seen.append
    other.enqueue(other.prepare(request, snapshot=engine.snapshot(ticket), previews=2))
    other.enqueue(other.prepare(request, previews=2))
    while other.busy:
        other.step()
    assert [(preview.number, preview.index, preview.row) for preview in seen] == [(1, 0, 2), (1, 1, 4)]

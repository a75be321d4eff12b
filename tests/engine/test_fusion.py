"""Rows that share evaluations in the engine: with guidance, several solvers and arrivals at any time."""

import numpy as np
import pytest
import torch
from fused_pipeline import FusedPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine import Engine, EngineSettings
from headrace.engine.runner import Runner
from headrace.errors import ExecutionError, NumericalError, PlanError
from headrace.models.denoiser import Rows
from headrace.request import Request

SOLVERS = ["ddim", "dpm++2m", "euler-a", "ddpm"]
TFS = [4, 4, 2, 1]


def tfs(plan):
    """K = 4 in the first half of the rows, 2 in the next quarter, 1 in the last."""
    return plan.with_columns(fusion=np.resize(np.repeat(TFS, -(-len(plan) // 4)), len(plan)))


def fused(k):
    return lambda plan: plan.with_columns(fusion=k)


def requests(count, **changes):
    return [Request(**{"prompt": "red apple "[: 3 + i % 7], "steps": 4, "seed": i, **changes}) for i in range(count)]


def crowd(count):
    return [
        Request(
            prompt="red apple "[: 3 + i % 7],
            steps=3 + i % 3,
            solver=SOLVERS[i % 4],
            guidance_scale=[1.0, 2.5, 7.0][i % 3],
            seed=i,
        )
        for i in range(count)
    ]


def latents_of(engine, pipeline, asked, gaps=None):
    """The finished latents of each request, as the decoder was given them, and the results."""
    seen = {}

    def remember(latents):
        for one in latents:
            seen[len(seen)] = one.clone()
        return False

    pipeline.undecodable = remember
    results, tickets = [], []
    for request, gap in zip(asked, gaps or [0] * len(asked), strict=True):
        tickets.append(engine.submit(request))
        for _ in range(gap):
            engine.step()
        results += engine.collect()
    while engine.busy:
        engine.step()
        results += engine.collect()
    order = [result.number for result in results]
    assert sorted(order) == sorted(tickets)
    assert [result.error for result in results] == [None] * len(results)
    return [seen[order.index(ticket)] for ticket in tickets], [results[order.index(ticket)] for ticket in tickets]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=9, max_size=9),
    st.integers(1, 9),
    st.integers(1, 8),
    st.sampled_from([(1, 2, 4), (2, 4), (4,), (1, 4)]),
)
def test_guidance_fusion_and_continuous_batching_give_the_pictures_of_plain_sampling(gaps, slots, max_rows, factors):
    asked = crowd(9)
    plain = FusedPipeline()
    expected, _ = latents_of(Engine(plain, EngineSettings(decode_batch=1)), plain, asked)
    pipeline = FusedPipeline(factors)
    decide = tfs if factors == (1, 2, 4) else fused(max(factors))
    engine = Engine(pipeline, EngineSettings(slots=slots, max_rows=max_rows, decode_batch=1), decide)
    found, results = latents_of(engine, pipeline, asked, gaps)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for result in results:
        planned, evaluated = result.plan.fusion, np.array(result.settings["fusion_rows"])
        assert evaluated.shape == planned.shape
        assert (evaluated <= planned).all()


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_equal_requests_form_full_groups_whatever_is_full(guidance):
    pipeline = FusedPipeline()
    engine = Engine(pipeline, EngineSettings(slots=16), tfs)
    results = engine.generate(requests(40, guidance_scale=guidance))
    branches = 1 if guidance == 1 else 2
    full = [(k, 16 * branches) for k in TFS]
    assert pipeline.groups[:8] == full * 2
    assert pipeline.groups[8:] == [(k, 8 * branches) for k in TFS]
    for result in results:
        assert result.settings["fusion_rows"] == TFS
        assert "padded_rows" not in result.settings


def test_a_group_costs_one_row_of_the_body_and_that_is_what_the_budget_counts():
    pipeline = FusedPipeline()
    engine = Engine(pipeline, EngineSettings(max_rows=4), fused(4))
    for request in requests(24, guidance_scale=1.0):
        engine.submit(request)
    report = engine.step()
    assert (report.rows, report.network_rows, report.body_rows, report.calls) == (24, 24, 6, 2)
    assert pipeline.groups == [(4, 16), (4, 8)]
    guided = Engine(pipeline, EngineSettings(max_rows=4), fused(4))
    for request in requests(11, guidance_scale=3.0):
        guided.submit(request)
    report = guided.step()
    # Two groups of 4 and a padded one of 3, each in both branches: padding is no row of anybody's.
    assert (report.rows, report.network_rows, report.body_rows, report.calls) == (11, 22, 6, 2)


def test_without_fusion_body_rows_are_network_rows():
    engine = Engine(FusedPipeline())
    for request in crowd(5):
        engine.submit(request)
    report = engine.step()
    assert report.network_rows == report.body_rows == 8


def test_what_a_row_was_evaluated_with_is_on_record():
    pipeline = FusedPipeline()
    results = Engine(pipeline, None, fused(4)).generate(requests(7, guidance_scale=1.0))
    assert [result.settings["fusion_rows"] for result in results] == [[4] * 4] * 7
    assert [result.settings.get("padded_rows") for result in results] == [None] * 4 + [[0, 1, 2, 3]] * 3
    single = Engine(pipeline, None, fused(4)).generate(requests(1))[0]
    assert single.settings["fusion_rows"] == [1] * 4
    assert single.plan.fusion.tolist() == [4] * 4
    assert "fusion_rows" not in Engine(pipeline).generate(requests(2))[0].settings


def test_partly_guided_groups_pad_their_unconditional_branch_alone():
    pipeline = FusedPipeline((4,))
    asked = [*requests(3, guidance_scale=1.0, solver="ddim"), *requests(1, guidance_scale=5.0, solver="ddim")]
    results = Engine(pipeline).generate(asked)
    assert pipeline.groups == [(4, 8)] * 4
    assert [result.settings.get("padded_rows") for result in results] == [None, None, None, [0, 1, 2, 3]]


def test_different_solvers_fuse_where_they_are_at_the_same_timestep():
    pipeline = FusedPipeline()
    engine = Engine(pipeline, None, fused(2))
    for solver in ("ddim", "ddpm"):
        engine.submit(Request(prompt="a", steps=4, solver=solver, guidance_scale=1.0))
    engine.step()
    assert pipeline.groups == [(2, 2)]


def test_a_request_draws_the_same_noise_alone_and_in_company():
    asked = requests(6, solver="ddpm", guidance_scale=1.0)

    def without_network(pipeline, wanted):
        pipeline.evaluate = lambda rows: torch.zeros_like(rows.sample)  # what is left is the request's own noise
        return latents_of(Engine(pipeline, EngineSettings(decode_batch=1), fused(4)), pipeline, wanted)[0]

    together = without_network(FusedPipeline(), asked)
    for request, latents in zip(asked, together, strict=True):
        assert torch.equal(without_network(FusedPipeline(), [request])[0], latents)


def test_companions_are_those_of_the_group_and_nobody_else():
    asked = requests(6, guidance_scale=1.0)
    pipeline = FusedPipeline((4,), mixing=0.3)
    together, _ = latents_of(Engine(pipeline, EngineSettings(decode_batch=1)), pipeline, asked)
    other = FusedPipeline((4,), mixing=0.3)
    changed = [*asked[:4], *requests(6, guidance_scale=1.0, prompt="quite another")[4:]]
    again, _ = latents_of(Engine(other, EngineSettings(decode_batch=1)), other, changed)
    same = [torch.equal(one, two) for one, two in zip(together, again, strict=True)]
    assert same == [True] * 4 + [False] * 2
    alone = FusedPipeline((4,), mixing=0.3)
    third, _ = latents_of(Engine(alone, EngineSettings(decode_batch=1)), alone, asked[4:])
    torch.testing.assert_close(third, together[4:])  # a padded group is padded with its own members


def failing(prompt, error, factors=(4,)):
    asked = requests(7, guidance_scale=1.0)
    asked[2] = asked[2].model_copy(update={"prompt": prompt})
    results = Engine(FusedPipeline(factors)).generate(asked)
    assert [type(result.error) for result in results] == [type(None)] * 2 + [error] + [type(None)] * 4
    expected = Engine(FusedPipeline()).generate(asked[:2] + asked[3:])
    for one, other in zip(results[:2] + results[3:], expected, strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1
    return results


def test_a_request_whose_rows_raise_fails_alone_and_its_companions_go_on_padded():
    results = failing("boom", ExecutionError)
    assert results[3].settings["padded_rows"] == [0]  # from row 1 on the groups are (0, 1, 3, 4) and (5, 6)
    assert results[5].settings["padded_rows"] == [0, 1, 2, 3]


def test_a_request_that_makes_its_group_nan_does_not_spoil_its_companions():
    failing("nan", NumericalError)


@pytest.mark.parametrize(
    ("factors", "k", "words"),
    [((1,), 2, ["K=2", "K = 1"]), ((1, 2, 4), 3, ["K=3", "K = 1, 2, 4"]), ((2, 4), 1, ["K=1", "K = 2, 4"])],
)
def test_a_factor_without_a_network_is_refused_before_any_work(factors, k, words):
    pipeline = FusedPipeline(factors)
    engine = Engine(pipeline)
    request = Request(prompt="a", steps=4)
    plan = engine.plan(request).with_columns(fusion=[max(factors), k, max(factors), max(factors)])
    with pytest.raises(PlanError) as caught:
        engine.submit(request, plan)
    assert not [word for word in [*words, "row 1", "fusion"] if word not in str(caught.value)], caught.value
    assert pipeline.groups == []


def test_a_model_decides_where_nobody_else_does():
    engine = Engine(FusedPipeline((2,)))
    assert engine.plan(Request(prompt="a", steps=4)).fusion.tolist() == [2] * 4
    told = []
    Engine(FusedPipeline((2, 4)), None, lambda plan: told.append(plan) or plan).plan(Request(prompt="a", steps=2))
    assert told[0].fusion.tolist() == [4, 4]


def test_pictures_of_different_sizes_do_not_fuse():
    pipeline = FusedPipeline()
    asked = [request.model_copy(update={"height": [16, 24][i % 2]}) for i, request in enumerate(requests(8))]
    results = Engine(pipeline, None, fused(4)).generate(asked)
    assert [result.error for result in results] == [None] * 8
    assert pipeline.groups == [(4, 8)] * 8  # for each size, its 4 requests in both branches


def test_a_request_may_go_on_with_another_factor():
    pipeline = FusedPipeline()
    engine = Engine(pipeline, None, fused(4))
    tickets = [engine.submit(request) for request in requests(4, guidance_scale=1.0)]
    engine.step()
    plan = engine.progress(tickets[0]).plan
    engine.replan(tickets[0], plan.with_columns(fusion=[4, 1, 1, 1]))
    with pytest.raises(PlanError, match="K=3"):
        engine.replan(tickets[1], plan.with_columns(fusion=[4, 3, 3, 3]))
    while engine.busy:
        engine.step()
    recorded = {result.number: result.settings["fusion_rows"] for result in engine.collect()}
    assert recorded == {0: [4, 1, 1, 1], 1: [4] * 4, 2: [4] * 4, 3: [4] * 4}  # the other three go on padded


def test_several_pictures_of_one_request():
    results = Engine(FusedPipeline((1,), pictures=2)).generate(requests(3, height=16, width=24))
    for result in results:
        assert result.pixels.shape == (16, 24, 3)
        assert len(result.images) == 2
        assert np.array_equal(np.asarray(result.image), result.pixels)
        assert np.array_equal(result.others[0], np.roll(result.pixels, 1, axis=1))
    plain = Engine(FusedPipeline()).generate(requests(1))[0]
    assert plain.others == ()
    assert len(plain.images) == 1


def test_a_fused_autoencoder_takes_no_other_factor():
    engine = Engine(FusedPipeline((1,), pictures=4), None, tfs)
    with pytest.raises(PlanError, match="autoencoder fuses them, so K is the same in every row"):
        engine.submit(Request(prompt="a", steps=4))


def test_compiled_calls_are_padded_by_whole_groups():
    sizes = []

    class Recording(FusedPipeline):
        def denoise(self, rows):
            sizes.append((len(rows), len(rows.branches), rows.sample[:, 0, 0, 0].tolist()))
            return rows.sample

    pipeline = Recording()
    pipeline.network.compile = lambda **options: None
    runner = Runner(pipeline, EngineSettings(compile="default", buckets=(2, 4)))
    rows = Rows(
        sample=torch.arange(6.0)[:, None, None, None].expand(6, 3, 8, 8),
        timestep=torch.zeros(6),
        conditioning={"length": torch.arange(6.0)},
        branches=np.zeros(6, np.int8),
        columns={"fusion": np.full(6, 2)},
    )
    assert len(runner(rows)) == 6
    assert sizes == [(8, 8, [0, 1, 2, 3, 4, 5, 4, 5])]

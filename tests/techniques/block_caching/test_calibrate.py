"""What is measured of a network's blocks, on tiny random models of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headrace.errors import CalibrationError
from headrace.models.blocks import find_blocks
from headrace.models.pipelines.loading import load
from headrace.plan import Plan
from headrace.plan.trace import trace
from headrace.request import Request
from headrace.techniques.block_caching.calibrate import ChangeMeter, measure_work, profile, relative_change

STEPS = 4


@pytest.fixture
def pipeline(tiny_model):
    return load(tiny_model("sd2"))


def plan_of(pipeline, guidance: float = 3.0, steps: int = STEPS) -> Plan:
    return trace(pipeline.components.scheduler, steps).with_columns(guidance=guidance)


def requests_of(count: int) -> list[Request]:
    return [Request(prompt="red apple" if seed % 2 else "boat", seed=seed) for seed in range(count)]


def recorded(pipeline, plan, request) -> list[dict[str, torch.Tensor]]:
    """What each block adds in each row, found with hooks and a loop of diffusers' own: [row][block] -> [2, ...]."""
    network, scheduler = pipeline.network, pipeline.components.scheduler
    blocks = find_blocks(network, "transformer")
    rows: list[dict[str, torch.Tensor]] = []
    hooks = [
        network.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, path=path: rows[-1].__setitem__(path, output[0] - inputs[0])
        )
        for path in blocks
    ]
    texts = pipeline.components.encode_prompt(request.prompt, "cpu", 1, True, negative_prompt="")
    text = torch.cat([texts[1], texts[0]])
    scheduler.set_timesteps(len(plan))
    generator = torch.Generator().manual_seed(request.seed)
    x = torch.randn((1, *pipeline.latent_shape(*pipeline.default_size)), generator=generator)
    with torch.inference_mode():
        for timestep in scheduler.timesteps:
            rows.append({})
            base, conditional = network(torch.cat([x, x]), timestep, text, return_dict=False)[0].chunk(2)
            x = scheduler.step(base + plan.guidance[0] * (conditional - base), timestep, x).prev_sample
    for hook in hooks:
        hook.remove()
    return rows


def test_the_profile_is_equation_6_of_an_ordinary_loop(pipeline):
    plan, [request] = plan_of(pipeline), requests_of(1)
    work = measure_work(pipeline, request)
    found = profile(pipeline, plan, [request], work)
    rows = recorded(pipeline, plan, request)
    for block in work.of_kind("transformer"):
        for row in range(STEPS - 1):
            before, after = rows[row][block].double(), rows[row + 1][block].double()
            branches = (after - before).abs().flatten(1).sum(1) / before.abs().flatten(1).sum(1)
            assert found.change([block])[row, 0] == pytest.approx(float(branches.mean()), rel=1e-3)
    assert found.images == 1
    assert not found.deviation.any()


def test_mean_and_deviation_over_images_do_not_depend_on_the_batch(pipeline):
    plan, requests = plan_of(pipeline), requests_of(5)
    work = measure_work(pipeline, requests[0])
    told: list[int] = []
    together = profile(pipeline, plan, requests, work, batch=2, progress=told.append)
    assert sum(told) == len(plan) * len(requests)
    alone = [profile(pipeline, plan, [request], work) for request in requests]
    changes = np.stack([one.mean for one in alone])
    assert together.mean == pytest.approx(changes.mean(axis=0), rel=1e-3)
    assert together.deviation == pytest.approx(changes.std(axis=0, ddof=1), rel=1e-2, abs=1e-5)
    assert together.mean.shape == (STEPS - 1, len(work.blocks))
    assert (together.mean > 0).all()


def test_the_pipeline_is_left_as_it_was(pipeline):
    before = [name for name, _ in pipeline.network.named_modules()]
    plan, requests = plan_of(pipeline, guidance=1.0), requests_of(1)
    profile(pipeline, plan, requests, measure_work(pipeline, requests[0]))
    assert [name for name, _ in pipeline.network.named_modules()] == before
    assert pipeline.row_cache is None


def test_stochastic_solvers_draw_from_each_requests_own_stream(pipeline):
    from headrace.models import solvers

    plan = trace(solvers.build("euler-a", pipeline.components.scheduler.config), STEPS).with_columns(guidance=2.0)
    requests = requests_of(2)
    work = measure_work(pipeline, requests[0])
    both = profile(pipeline, plan, requests, work)
    parts = [profile(pipeline, plan, [request], work).mean for request in requests]
    assert both.mean == pytest.approx(np.mean(parts, axis=0), rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "fields", "kinds"),
    [
        ("ddim", {}, {"transformer", "resnet"}),
        ("ddpm-classes", {"class_label": 2}, {"transformer", "resnet"}),
        ("ldm", {}, {"transformer", "resnet"}),
        ("dit", {"class_label": 2}, {"transformer"}),
        ("sdxl", {"prompt": "boat"}, {"transformer", "resnet"}),
        ("lcm", {"prompt": "boat"}, {"transformer", "resnet"}),
        ("pixart", {"prompt": "boat"}, {"transformer"}),
    ],
)
def test_every_family_has_a_profile(tiny_model, kind, fields, kinds):
    pipeline = load(tiny_model(kind))
    request = Request(**fields)
    plan = plan_of(pipeline, pipeline.guidance(request), steps=2)
    work = measure_work(pipeline, request)
    assert set(work.kinds) == {*kinds, "branch"}
    assert all(macs > 0 for macs in work.macs)
    own = [macs for macs, of in zip(work.macs, work.kinds, strict=True) if of != "branch"]
    assert sum(own) < work.network_macs
    assert work.kinds.count("branch") == 1
    assert work.macs[-1] < work.network_macs
    found = profile(pipeline, plan, [request], work)
    assert found.mean.shape == (1, len(work.blocks))
    assert (found.mean > 0).all()


def test_the_operations_of_a_block_are_those_of_its_layers(pipeline):
    work = measure_work(pipeline, requests_of(1)[0])
    network = pipeline.network
    index = work.blocks.index("down_blocks.0.resnets.0")
    block = network.get_submodule("down_blocks.0.resnets.0")
    side = network.config.sample_size
    convolutions = sum(side * side * part.weight.numel() for part in (block.conv1, block.conv2))
    assert work.macs[index] == convolutions + block.time_emb_proj.weight.numel()
    assert work.share(work.blocks).sum() == pytest.approx(sum(work.macs) / work.network_macs)


def test_relative_change_of_nothing_is_nothing():
    zeros, ones = torch.zeros(2, 3), torch.ones(2, 3)
    assert relative_change(zeros, zeros).tolist() == [0, 0]
    assert relative_change(ones, 3 * ones).tolist() == [2, 2]
    assert torch.isfinite(relative_change(zeros, ones)).all()


def test_the_meter_compares_with_the_row_before():
    meter = ChangeMeter(1)
    for value in (1.0, 2.0, 3.0):
        meter(0, torch.full((2, 4), value))
    assert meter.changes()[:, :, 0].tolist() == [[1.0, 0.5]] * 2


def test_what_cannot_be_measured(pipeline):
    requests = requests_of(1)
    work = measure_work(pipeline, requests[0])
    plan = plan_of(pipeline)
    cases = [
        (plan_of(pipeline, steps=1), requests, "single row"),
        (plan, [], "no requests"),
        (plan.with_columns(guidance=[3, 3, 1, 1]), requests, "guidance is off in some rows"),
    ]
    for wrong, asked, words in cases:
        with pytest.raises(CalibrationError, match=words):
            profile(pipeline, wrong, asked, work)
    with pytest.raises(CalibrationError, match="has no spiral blocks"):
        work.of_kind("spiral")

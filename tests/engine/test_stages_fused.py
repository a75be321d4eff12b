"""Networks that have a decoder for each stage and evaluate K images at once: FuseBatch and Multistage together."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from fused_models import BETAS
from headrace.engine import Engine, EngineSettings
from headrace.errors import ModelError, PlanError
from headrace.models.pipelines.loading import load
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.request import Request
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel
from headrace.techniques.fusebatch.schedule import PAPER, fuse, uniform
from headrace.techniques.multistage.acceleration import StagesAcceleration
from headrace.techniques.multistage.artefact import StagesArtefact
from headrace.techniques.multistage.network import MultistageUNet2DModel
from headrace.techniques.multistage.schedule import Stages
from tiny_networks import pixel_unet

BOUNDARIES = [0.12, 0.21]  # of a kernel that stops at t = 0.31, so that every stage has steps
STEPS = 8


def staged_settings(**options):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        unet = {name: value for name, value in pixel_unet(**options).config.items() if not name.startswith("_")}
    return {"network": "MultistageUNet2DModel", "unet": unet, "decoders": [24, 16, 8], "boundaries": BOUNDARIES}


@torch.no_grad()
def fused(factors, policy=None, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = FuseBatchUNet2DModel(list(factors), staged_settings(**options), policy=policy)
        for name, parameter in network.named_parameters():  # outputs with a useful spread
            if name.endswith(("conv_out.weight", "conv_out.head.projection.weight")):
                parameter.mul_(4)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def unet():
    return fused((1, 2, 4))


class Components:
    def __init__(self, unet, scheduler):
        self.unet, self.scheduler = unet, scheduler


class Watched(PixelPipeline):
    """Keeps the calls, as (K, stages), and the latents that it is given to decode."""

    def __init__(self, unet, scheduler):
        super().__init__(Components(unet, scheduler), "watched")
        self.finished, self.calls = [], []

    def evaluate(self, rows):
        self.calls.append((rows.fusion, rows.columns["stage"].tolist()))
        return super().evaluate(rows)

    def decode(self, latents):
        self.finished += latents.clone().unbind(0)
        return super().decode(latents)


def by_diffusers(unet, scheduler, seeds, plan):
    """The finished latents of one group, by a plain loop that tells the network what the plan has."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    x = torch.cat([torch.randn((1, 3, 16, 16), generator=generator) for generator in generators])
    scheduler.set_timesteps(STEPS)
    options = {"generator": generators} if isinstance(scheduler, DDPMScheduler) else {}
    with torch.inference_mode():
        for t, k, stage in zip(scheduler.timesteps, plan.fusion, plan.stage, strict=True):
            x = scheduler.step(unet(x, t, fusion=int(k), stage=int(stage)).sample, t, x, **options).prev_sample
    return x


SOLVERS = {
    "ddim": lambda: DDIMScheduler(**BETAS),
    "ddpm": lambda: DDPMScheduler(**BETAS),
    "flow": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("allocation", [uniform(1), uniform(4), PAPER], ids=["k1", "k4", "tfs"])
def test_a_group_is_what_a_plain_loop_makes_of_it(unet, solver, allocation):
    seeds = [3, 1, 4, 15]
    pipeline = Watched(unet, SOLVERS[solver]())
    engine = Engine(pipeline, EngineSettings(channels_last=False), lambda plan: fuse(plan, allocation))
    results = engine.generate([Request(seed=seed, steps=STEPS) for seed in seeds])
    assert [result.error for result in results] == [None] * 4
    plan = results[0].plan
    assert len(set(plan.stage.tolist())) > 1
    expected = by_diffusers(unet, SOLVERS[solver](), seeds, plan)
    assert expected.std() > 0.1
    torch.testing.assert_close(torch.stack(pipeline.finished), expected, rtol=1e-4, atol=1e-4)


def test_groups_of_several_stages_share_a_call_and_not_an_evaluation(unet):
    """Requests of other step counts are in other stages: two groups of two, and what they come to is as alone."""
    requests = [Request(seed=seed, steps=steps) for seed, steps in ((1, 4), (2, 4), (3, 9), (4, 9))]

    def finished(batches):
        pipeline = Watched(unet, DDIMScheduler(**BETAS))
        engine = Engine(pipeline, EngineSettings(channels_last=False), lambda plan: fuse(plan, uniform(2)))
        results = [result for batch in batches for result in engine.generate(batch)]
        assert [result.error for result in results] == [None] * 4
        return pipeline, {one.settings["seed"]: np.asarray(one.image).astype(int) for one in results}

    together, mixed = finished([requests])
    _, apart = finished([requests[:2], requests[2:]])
    assert any(len(set(stages)) > 1 for _, stages in together.calls)
    for fusion, stages in together.calls:
        pairs = np.reshape(stages, (-1, fusion))
        assert (pairs == pairs[:, :1]).all()
    for seed, picture in mixed.items():
        assert np.abs(picture - apart[seed]).max() <= 1  # of 255, rounding


def test_rows_of_one_timestep_and_two_stages_are_no_group(unet):
    pipeline = Watched(unet, DDIMScheduler(**BETAS))
    engine = Engine(pipeline, EngineSettings(channels_last=False))
    plan = engine.plan(Request(steps=2)).with_columns(fusion=2)
    for stage in (0, 1):
        engine.submit(Request(steps=2, seed=stage), plan.with_columns(stage=stage))
    while engine.busy:
        engine.step()
    assert [result.error for result in engine.collect()] == [None, None]
    assert {fusion for fusion, _ in pipeline.calls} == {1}  # a single row falls back to the smaller factor


def test_class_labels_reach_every_decoder():
    network = fused((2,), num_class_embeds=3)
    sample, stages = torch.randn(4, 3, 16, 16), np.array([0, 0, 2, 2])
    one, other = (
        network(sample, 500, torch.tensor(labels), fusion=2, stage=stages).sample
        for labels in ([0, 1, 0, 1], [0, 1, 1, 0])
    )
    torch.testing.assert_close(one[:2], other[:2])
    assert (one[2:] - other[2:]).abs().max() > 1e-4


def test_mixed_stages_in_one_call_are_those_of_calls_apart(unet):
    sample, stages = torch.randn(8, 3, 16, 16), np.repeat([2, 0, 1, 0], 2)
    times = torch.tensor([900.0, 100, 500, 60]).repeat_interleave(2)
    mixed = unet(sample, times, fusion=2, stage=stages).sample
    apart = [unet(sample[at : at + 2], times[at], fusion=2, stage=int(stages[at])).sample for at in range(0, 8, 2)]
    torch.testing.assert_close(mixed, torch.cat(apart), rtol=1e-5, atol=1e-5)


def test_it_starts_as_the_staged_network_for_equal_pictures():
    """With conv_in made to read the mean of the fused images, K equal pictures are answered as one is."""
    torch.manual_seed(1)
    settings = staged_settings()
    single = MultistageUNet2DModel(**{name: value for name, value in settings.items() if name != "network"}).eval()
    network = FuseBatchUNet2DModel([2], settings).eval()
    network.initialise_from(single)
    body = network.networks["2"].body
    given, taken = single.state_dict(), body.state_dict()
    for here, there in (
        ("encoders.0.mid_block.resnets.0.conv1.weight", "encoders.0.mid_block.resnets.0.conv1.weight"),
        ("stage_decoders.1.conv_out.head.projection.weight", "stage_decoders.1.conv_out.weight"),
    ):
        assert torch.equal(taken[here], given[there])
    sample = torch.randn(1, 3, 16, 16)
    hidden = single.encoders[0].conv_in(sample)
    body.encoders[0].conv_in.register_forward_hook(lambda *_: hidden)
    with torch.no_grad():
        output = network(sample.repeat(2, 1, 1, 1), 300, fusion=2, stage=1).sample
        expected = single(sample, 300, stage=1).sample
    torch.testing.assert_close(output, expected.repeat(2, 1, 1, 1), rtol=1e-4, atol=1e-5)


def test_it_starts_from_a_unified_network(unet):
    with torch.no_grad():
        unified = pixel_unet()
    network = fused((1, 2))
    network.initialise_from(unified)
    for one in (network.networks["1"], network.networks["2"].body):
        assert torch.equal(one.encoders[0].mid_block.resnets[0].conv1.weight, unified.mid_block.resnets[0].conv1.weight)


def test_a_folder_is_served_with_its_policy_and_its_stages(tmp_path, unet):
    DDPMPipeline(unet, DDIMScheduler(**BETAS)).save_pretrained(tmp_path)
    pipeline = load(tmp_path)
    assert pipeline.columns == {"stage", "fusion"}
    assert pipeline.fusion_factors == (1, 2, 4)
    engine = Engine(pipeline)
    plan = engine.plan(Request(steps=STEPS))
    assert plan.fusion.tolist() == [4, 4, 4, 4, 2, 2, 1, 1]
    assert set(plan.stage.tolist()) == {0, 1, 2}
    with pytest.raises(PlanError, match="has 3 decoders"):
        engine.submit(Request(steps=STEPS), plan.with_columns(stage=3))
    results = engine.generate([Request(steps=STEPS, seed=seed) for seed in range(5)])
    assert [result.error for result in results] == [None] * 5
    stages = Stages(BOUNDARIES)
    artefact = StagesArtefact(
        model="pictures", weights="0", method="timestep", data="pictures", images=0, kernel="vp", samples=0,
        boundaries=stages.boundaries, sigmas=stages.sigmas,
    )  # fmt: skip
    assert StagesAcceleration(artefact).attach(pipeline)(plan).stage.tolist() == plan.stage.tolist()


@pytest.mark.parametrize("network", ["FuseBatchUNet2DModel", "FuseBatchAutoencoderKL", "Nothing", 3])
def test_what_is_no_network_of_one_image_is_refused(network):
    with pytest.raises(ModelError, match=r"fuses images itself|is no network"):
        FuseBatchUNet2DModel([2], staged_settings() | {"network": network})

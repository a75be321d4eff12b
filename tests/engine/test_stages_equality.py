"""Pictures of a network with a decoder for each stage: the engine's against a plain loop around diffusers' solvers."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, EDMEulerScheduler, LDMPipeline

from fused_models import BETAS, latent_model
from headrace.engine import Engine, EngineSettings
from headrace.errors import PlanError
from headrace.models import solvers
from headrace.models.conditioning import Conditioning
from headrace.models.pipelines.loading import load
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.request import Request
from headrace.techniques.multistage.network import MultistageUNet2DModel
from headrace.techniques.multistage.schedule import Stages
from tiny_networks import pixel_unet

BOUNDARIES = [0.12, 0.21]  # of a kernel that stops at t = 0.31, so that every stage has steps
STEPS = 8


def multistage_unet(**options):
    """Decoders of three widths whose outputs have a useful spread."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        settings = {k: v for k, v in pixel_unet(**options).config.items() if not k.startswith("_")}
        network = MultistageUNet2DModel(settings, [24, 16, 8], BOUNDARIES).eval().requires_grad_(False)
        size, channels = settings["sample_size"], settings["in_channels"]
        labels = torch.zeros(2, dtype=torch.long) if settings["num_class_embeds"] else None
        for stage, decoder in enumerate(network.stage_decoders):
            produced = network(torch.randn(2, channels, size, size), 500, labels, stage=stage).sample
            decoder.conv_out.weight.mul_(0.5 / produced.std())
    return network


class Components:
    def __init__(self, unet, scheduler):
        self.unet, self.scheduler = unet, scheduler


class Watched(PixelPipeline):
    """Keeps the stages of each call and the latents that it is given to decode."""

    def __init__(self, components, name):
        super().__init__(components, name)
        self.finished, self.calls = [], []

    def evaluate(self, rows):
        self.calls.append(rows.columns["stage"].tolist())
        return super().evaluate(rows)

    def decode(self, latents):
        self.finished += latents.clone().unbind(0)
        return super().decode(latents)


class Guided(Watched):
    """Class 0 is the unconditional one."""

    default_guidance = 3.0

    def encode(self, requests):
        null = {"class_labels": torch.tensor(0)}
        return [Conditioning({"class_labels": torch.tensor(one.class_label)}, null) for one in requests]


@pytest.fixture(scope="module")
def unet():
    return multistage_unet()


def by_diffusers(unet, scheduler, seed, stage_of, guided=None):
    """The finished latents; `stage_of(timestep)` picks the decoder, as the authors' samplers do."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((1, 3, 16, 16), generator=generator) * scheduler.init_noise_sigma
    scheduler.set_timesteps(STEPS)
    options = {"generator": generator} if isinstance(scheduler, DDPMScheduler) else {}
    with torch.inference_mode():
        for t in scheduler.timesteps:
            given = scheduler.scale_model_input(x, t)
            if guided is None:
                output = unet(given, t, stage=stage_of(t)).sample
            else:
                scale, label = guided
                told, null = (unet(given, t, torch.tensor([n]), stage=stage_of(t)).sample for n in (label, 0))
                output = null + scale * (told - null)
            x = scheduler.step(output, t, x, **options).prev_sample
    return x[0]


def by_timestep(scheduler):
    """A decoder for each discrete timestep, from the schedule's own noise levels."""
    alphas = scheduler.alphas_cumprod.double().numpy()
    stages = Stages(BOUNDARIES).of_level(np.sqrt(alphas), np.sqrt(1 - alphas))
    return lambda t: int(stages[int(t)])


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler])
def test_pictures_are_those_of_a_loop_that_picks_the_decoder_by_timestep(unet, kind):
    pipeline = Watched(Components(unet, kind(**BETAS)), "watched")
    results = Engine(pipeline, EngineSettings(channels_last=False)).generate(
        [Request(seed=seed, steps=STEPS) for seed in (3, 1)]
    )
    assert set(results[0].plan.stage.tolist()) == {0, 1, 2}
    expected = [by_diffusers(unet, kind(**BETAS), seed, by_timestep(kind(**BETAS))) for seed in (3, 1)]
    assert expected[0].std() > 0.3
    torch.testing.assert_close(torch.stack(pipeline.finished), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_an_edm_solver_picks_by_the_sigma_of_equal_signal_to_noise_ratio(unet):
    scheduler = EDMEulerScheduler(sigma_max=2.0)
    sigmas = Stages(BOUNDARIES).sigmas
    pipeline = Watched(Components(unet, EDMEulerScheduler(sigma_max=2.0)), "watched")
    engine = Engine(pipeline, EngineSettings(channels_last=False))
    engine.generate([Request(seed=2, steps=STEPS)])

    def stage_of(t):  # c_noise is ln(sigma) / 4
        return int(np.searchsorted(sigmas, np.exp(4 * float(t)), side="right"))

    expected = by_diffusers(unet, scheduler, 2, stage_of)
    torch.testing.assert_close(pipeline.finished[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", ["dpm++2m", "euler-a", "heun", "unipc-karras", "lms", "pndm", "dpm++2m-sde"])
def test_rows_of_several_stages_share_a_call_and_pictures_do_not_change(unet, solver):
    requests = [Request(seed=seed, steps=steps, solver=solver) for seed, steps in ((1, 4), (2, 9), (3, 6))]

    def pictures(batches):
        pipeline = Watched(Components(unet, DDIMScheduler(**BETAS)), "watched")
        engine = Engine(pipeline, EngineSettings(channels_last=False))
        images = [result for batch in batches for result in engine.generate(batch)]
        assert [one.error for one in images] == [None] * 3
        return pipeline, [np.asarray(one.image).astype(int) for one in images]

    together, mixed = pictures([requests])
    _, alone = pictures([[one] for one in requests])
    assert any(len(set(call)) > 1 for call in together.calls)
    assert {stage for call in together.calls for stage in call} == {0, 1, 2}
    for one, other in zip(mixed, alone, strict=True):
        assert np.abs(one - other).max() <= 1  # of 255, rounding


def test_both_guidance_branches_are_of_the_rows_stage():
    unet = multistage_unet(num_class_embeds=3)
    pipeline = Guided(Components(unet, DDIMScheduler(**BETAS)), "guided")
    engine = Engine(pipeline, EngineSettings(channels_last=False))
    requests = [Request(seed=4, steps=STEPS, class_label=1), Request(seed=5, steps=5, class_label=2)]
    engine.generate(requests)
    assert max(len(call) for call in pipeline.calls) == 4
    expected = by_diffusers(unet, DDIMScheduler(**BETAS), 4, by_timestep(DDIMScheduler(**BETAS)), (3.0, 1))
    # The guided difference is three times as large, and so are its rounding errors.
    difference = min((one - expected).abs().max() for one in pipeline.finished)
    assert difference < 1e-4


def test_a_folder_with_stages_is_served_and_says_so(unet, tmp_path):
    DDPMPipeline(unet, DDIMScheduler(**BETAS)).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["unet"] == ["headrace", "MultistageUNet2DModel"]
    pipeline = load(tmp_path)
    assert pipeline.columns == {"stage"}
    engine = Engine(pipeline)
    plan = engine.plan(Request(steps=4))
    with pytest.raises(PlanError, match="has 3 decoders"):
        engine.submit(Request(steps=4), plan.with_columns(stage=3))
    (result,) = engine.generate([Request(steps=4, solver="dpm++2m")])
    assert result.error is None


def test_a_plan_with_stages_needs_a_network_with_stages():
    with torch.no_grad():
        pipeline = PixelPipeline(Components(pixel_unet(), DDIMScheduler(**BETAS)), "plain")
    engine = Engine(pipeline)
    with pytest.raises(PlanError, match="stage"):
        engine.submit(Request(steps=4), engine.plan(Request(steps=4)).with_columns(stage=1))


def test_stages_work_on_latents_of_several_pictures(tmp_path):
    """A fused autoencoder leaves the network as it is: FuseBatch's FB-AE and stages together."""
    parts = load(latent_model(tmp_path / "plain", 2)).components
    unet = multistage_unet(sample_size=8, in_channels=4, out_channels=4)
    LDMPipeline(parts.vqvae, unet, DDIMScheduler(**BETAS)).save_pretrained(tmp_path / "model")
    results = Engine(load(tmp_path / "model")).generate([Request(steps=n, seed=n) for n in (2, 5)])
    assert [len(result.images) for result in results] == [2, 2]
    assert set(results[1].plan.stage.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("name", [n for n, spec in solvers.SOLVERS.items() if spec.family == "variance preserving"])
def test_every_solver_that_suits_the_model_is_planned_with_stages(unet, name):
    pipeline = PixelPipeline(Components(unet, DDIMScheduler(**BETAS)), "planned")
    plan = Engine(pipeline).plan(Request(steps=10, solver=name))
    assert set(plan.stage.tolist()) <= {0, 1, 2}
    assert len(set(plan.stage.tolist())) > 1

"""Pictures of networks that evaluate K images at once: the engine's against a plain loop around diffusers' solver."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from fused_models import BETAS, fused_unet, latent_model, pixel_model
from headrace.engine import Engine, EngineSettings
from headrace.errors import PlanError
from headrace.models.pipelines.loading import load
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.models.pipelines.unet2d import encode_class
from headrace.request import Request
from headrace.techniques.fusebatch.schedule import PAPER, effective_cost, fuse, uniform

SOLVERS = {
    "ddpm": lambda: DDPMScheduler(**BETAS),
    "ddim": lambda: DDIMScheduler(**BETAS),
    "flow": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
}
STEPS = 8


class Watched(PixelPipeline):
    """Keeps the latents that it is given to decode."""

    def __init__(self, components, name):
        super().__init__(components, name)
        self.finished = []

    def decode(self, latents):
        self.finished += latents.clone().unbind(0)
        return super().decode(latents)


class Guided(Watched):
    """Class-conditional, with class 0 as what guidance moves away from."""

    default_guidance = 3.0

    def encode(self, requests):
        return [encode_class(request.class_label, self.device, null=0) for request in requests]


class Components:
    def __init__(self, unet, scheduler):
        self.unet, self.scheduler = unet, scheduler


def by_diffusers(unet, scheduler, seeds, factors, labels=None, places=slice(None)):
    """The finished latents of one group: `factors` is the K of each step, `places` who stands where in the group."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    x = torch.cat([torch.randn((1, 3, 16, 16), generator=generator) for generator in generators])
    scheduler.set_timesteps(STEPS)
    options = {"generator": generators} if isinstance(scheduler, DDPMScheduler) else {}
    with torch.inference_mode():
        for t, k in zip(scheduler.timesteps, factors, strict=True):
            output = unet(x[places], t, labels, fusion=int(k)).sample[: len(x)]
            x = scheduler.step(output, t, x, **options).prev_sample
    return x


def by_the_engine(unet, scheduler, allocation, requests):
    pipeline = Watched(Components(unet, scheduler), "watched")
    engine = Engine(pipeline, EngineSettings(channels_last=False), lambda plan: fuse(plan, allocation))
    results = engine.generate(requests)
    assert [result.error for result in results] == [None] * len(results)
    return torch.stack(pipeline.finished), results


@pytest.fixture(scope="module")
def unet():
    return fused_unet((1, 2, 4))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("allocation", [uniform(1), uniform(2), uniform(4), PAPER], ids=["k1", "k2", "k4", "tfs"])
def test_a_group_is_what_a_plain_loop_makes_of_it(unet, solver, allocation):
    seeds = [3, 1, 4, 15]
    requests = [Request(seed=seed, steps=STEPS) for seed in seeds]
    latents, results = by_the_engine(unet, SOLVERS[solver](), allocation, requests)
    factors = results[0].plan.fusion
    assert effective_cost(results[0].plan) == allocation.cost
    if solver == "flow" and allocation is PAPER:
        assert factors.tolist() == [4, 4, 4, 2, 2, 1, 1, 4]  # by interval
    expected = by_diffusers(unet, SOLVERS[solver](), seeds, factors)
    assert expected.std() > 0.3
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)
    recorded = [result.settings.get("fusion_rows") for result in results]
    assert recorded == [None if allocation == uniform(1) else factors.tolist()] * 4


def test_two_groups_in_one_call_do_not_see_each_other(unet):
    seeds = list(range(8))
    requests = [Request(seed=seed, steps=STEPS) for seed in seeds]
    latents, _ = by_the_engine(unet, SOLVERS["ddim"](), uniform(4), requests)
    groups = [by_diffusers(unet, SOLVERS["ddim"](), part, [4] * STEPS) for part in (seeds[:4], seeds[4:])]
    torch.testing.assert_close(latents, torch.cat(groups), rtol=1e-5, atol=1e-5)


def test_a_short_group_is_padded_with_its_own_members(unet):
    seeds = [3, 1, 4]
    requests = [Request(seed=seed, steps=STEPS) for seed in seeds]
    latents, results = by_the_engine(unet, SOLVERS["ddpm"](), uniform(4), requests)
    expected = by_diffusers(unet, SOLVERS["ddpm"](), seeds, [4] * STEPS, places=[0, 1, 2, 0])
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)
    assert [result.settings["padded_rows"] for result in results] == [list(range(STEPS))] * 3


def test_one_that_is_left_over_is_evaluated_alone(unet):
    latents, _ = by_the_engine(unet, SOLVERS["ddim"](), uniform(4), [Request(seed=5, steps=STEPS)])
    expected = by_diffusers(unet, SOLVERS["ddim"](), [5], [1] * STEPS)
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)


def test_every_picture_keeps_its_class():
    unet = fused_unet((2,), num_class_embeds=5)
    requests = [Request(seed=seed, steps=STEPS, class_label=seed) for seed in (0, 3)]
    latents, _ = by_the_engine(unet, SOLVERS["ddim"](), uniform(2), requests)
    expected = by_diffusers(unet, SOLVERS["ddim"](), [0, 3], [2] * STEPS, torch.tensor([0, 3]))
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)
    other = by_diffusers(unet, SOLVERS["ddim"](), [0, 3], [2] * STEPS, torch.tensor([3, 0]))
    assert (expected - other).abs().max() > 1e-3


@pytest.mark.parametrize("scales", [[3.0, 3.0], [1.0, 3.0]], ids=["both", "one"])
def test_guided_branches_fuse_by_themselves(scales):
    """Of a group with one guided request, the unconditional branch is padded with that request."""
    unet = fused_unet((2,), num_class_embeds=5)
    pipeline = Guided(Components(unet, SOLVERS["ddim"]()), "guided")
    engine = Engine(pipeline, EngineSettings(channels_last=False, decode_batch=1))
    labels = [2, 4]
    requests = [
        Request(seed=seed, steps=STEPS, class_label=label, guidance_scale=scale)
        for seed, (label, scale) in enumerate(zip(labels, scales, strict=True))
    ]
    results = engine.generate(requests)
    order = [seed for seed in (0, 1) if scales[seed] != 1] + [seed for seed in (0, 1) if scales[seed] == 1]
    guided = sum(scale != 1 for scale in scales)

    def both_branches(x, t):
        told = torch.tensor([labels[seed] for seed in order])
        conditional = unet(x, t, told, fusion=2).sample
        unconditional = unet(x[:guided].repeat(2 // guided, 1, 1, 1), t, told * 0, fusion=2).sample[:guided]
        moved = unconditional + 3.0 * (conditional[:guided] - unconditional)
        return torch.cat([moved, conditional[guided:]])

    scheduler = SOLVERS["ddim"]()
    x = torch.cat([torch.randn((1, 3, 16, 16), generator=torch.Generator().manual_seed(seed)) for seed in order])
    scheduler.set_timesteps(STEPS)
    with torch.inference_mode():
        for t in scheduler.timesteps:
            x = scheduler.step(both_branches(x, t), t, x).prev_sample
    for seed, latents in enumerate(pipeline.finished):
        # Guidance makes differences of the last bits three times as large in every step.
        torch.testing.assert_close(latents, x[order.index(seed)], rtol=1e-4, atol=1e-4)
    padded = [result.settings.get("padded_rows") for result in results]
    assert padded == [None if scale == 1 or guided == 2 else list(range(STEPS)) for scale in scales]


@pytest.mark.parametrize(
    ("factors", "policy", "expected"),
    [
        ((2,), None, [2, 2, 2, 2]),
        ((1, 2, 4), None, [4, 4, 2, 1]),
        ((1, 4), [[4, 0.25], [1, 0.75]], [4, 1, 1, 1]),
    ],
)
def test_a_folder_says_which_factors_it_has_and_how_it_uses_them(tmp_path, factors, policy, expected):
    pipeline = load(pixel_model(tmp_path / "model", factors, policy=policy))
    assert pipeline.fusion_factors == factors
    assert pipeline.columns == {"fusion"}
    engine = Engine(pipeline)
    assert engine.plan(Request(steps=4)).fusion.tolist() == expected
    result = engine.generate([Request(steps=4, seed=seed) for seed in range(4)])[0]
    assert result.settings["fusion_rows"] == expected
    three = engine.plan(Request(steps=4)).with_columns(fusion=3)
    with pytest.raises(PlanError, match="K=3"):
        engine.submit(Request(steps=4), three)


def test_a_fused_autoencoder_makes_several_pictures_of_one_trajectory(tmp_path):
    pipeline = load(latent_model(tmp_path / "model", 2))
    assert (pipeline.pictures, pipeline.fusion_factors) == (2, (1,))
    engine = Engine(pipeline)
    results = engine.generate([Request(steps=2, seed=seed) for seed in range(3)])
    for result in results:
        first, second = result.images
        assert first.size == second.size == (64, 64)
        assert result.image.tobytes() == first.tobytes() != second.tobytes()
    latents = torch.randn(3, *pipeline.latent_shape(64, 64))
    with torch.inference_mode():
        assert pipeline.decode(latents).shape == (6, 64, 64, 3)
    plan = engine.plan(Request(steps=2)).with_columns(fusion=2)
    with pytest.raises(PlanError, match="K is the same in every row"):
        engine.submit(Request(steps=2), plan)


def test_pictures_of_a_fused_autoencoder_do_not_depend_on_chunks(tmp_path):
    from headrace.engine import Order

    engine = Engine(load(latent_model(tmp_path / "model", 2)))
    (whole,) = engine.generate([Request(steps=1, seed=2)])
    engine.submit(Request(steps=1, seed=2))
    while engine.busy:
        engine.step(Order(chunks=4))
    (cut,) = engine.collect()
    assert [image.tobytes() for image in cut.images] == [image.tobytes() for image in whole.images]

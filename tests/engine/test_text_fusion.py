"""Requests with prompts of their own share evaluations: the engine's against a plain loop around diffusers' solver."""

import numpy as np
import pytest
import torch

from fused_models import fused_text_unet, text_components, text_model
from headrace.engine import Engine, EngineSettings
from headrace.errors import PlanError
from headrace.models.pipelines.loading import load
from headrace.models.pipelines.text import StableDiffusionPipeline
from headrace.request import Request
from headrace.techniques.fusebatch.collection import collect, write
from headrace.techniques.fusebatch.schedule import PAPER, fuse, uniform

STEPS = 8
PROMPTS = ("red apple", "the blue pear", "rain", "a red red apple")


class Watched(StableDiffusionPipeline):
    """Keeps the latents that it is given to decode."""

    def __init__(self, components):
        super().__init__(components, "watched")
        self.finished = []

    def decode(self, latents):
        self.finished += latents.clone().unbind(0)
        return super().decode(latents)


@pytest.fixture(scope="module")
def components():
    return text_components(fused_text_unet((1, 2, 4)))


def requests_for(count, scale=1.0, **options):
    chosen = [{"prompt": prompt, "negative_prompt": f"no {prompt}"} for prompt in PROMPTS[:count]]
    return [
        Request(seed=seed, steps=STEPS, guidance_scale=scale, **texts, **options) for seed, texts in enumerate(chosen)
    ]


def engine_of(pipeline, allocation=None):
    decide = None if allocation is None else lambda plan: fuse(plan, allocation)
    return Engine(pipeline, EngineSettings(channels_last=False), decide)


def by_the_engine(components, allocation, requests):
    pipeline = Watched(components)
    results = engine_of(pipeline, allocation).generate(requests)
    assert [result.error for result in results] == [None] * len(results)
    return torch.stack(pipeline.finished), results


def by_diffusers(components, requests, factors, places=slice(None)):
    """The finished latents of one group: `factors` is the K of each step, `places` who stands where in the group."""
    unet, scheduler = components.unet, components.scheduler
    generators = [torch.Generator().manual_seed(request.seed) for request in requests]
    x = torch.cat([torch.randn((1, 4, 8, 8), generator=generator) for generator in generators])
    texts = [[request.prompt for request in requests], [request.negative_prompt for request in requests]]
    text, negative = (components.encode_prompt(one, "cpu", 1, False)[0][places] for one in texts)
    scale = requests[0].guidance_scale
    scheduler.set_timesteps(STEPS)
    with torch.inference_mode():
        for t, k in zip(scheduler.timesteps, factors, strict=True):
            output = unet(x[places], t, text, fusion=int(k)).sample
            if scale != 1:
                moved = unet(x[places], t, negative, fusion=int(k)).sample
                output = moved + scale * (output - moved)
            x = scheduler.step(output[: len(x)], t, x).prev_sample
    return x


def assert_close(found, expected):
    assert expected.std() > 0.3
    # Guidance makes differences of the last bits larger in every step.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 4.0], ids=["plain", "guided"])
@pytest.mark.parametrize("allocation", [uniform(1), uniform(2), uniform(4), PAPER], ids=["k1", "k2", "k4", "tfs"])
def test_requests_of_different_prompts_share_evaluations(components, allocation, scale):
    requests = requests_for(4, scale)
    latents, results = by_the_engine(components, allocation, requests)
    factors = results[0].plan.fusion
    assert_close(latents, by_diffusers(components, requests, factors))
    recorded = [result.settings.get("fusion_rows") for result in results]
    assert recorded == [None if allocation == uniform(1) else factors.tolist()] * 4


def test_every_picture_keeps_its_prompt(components):
    requests = requests_for(2)
    latents, _ = by_the_engine(components, uniform(2), requests)
    one, other = requests
    swapped = [one.model_copy(update={"prompt": other.prompt}), other.model_copy(update={"prompt": one.prompt})]
    found = by_diffusers(components, swapped, [2] * STEPS)
    assert (latents - found).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_a_short_group_is_padded_or_falls_back(components):
    requests = requests_for(3, 3.0)
    latents, results = by_the_engine(components, uniform(4), requests)
    assert_close(latents, by_diffusers(components, requests, [4] * STEPS, places=[0, 1, 2, 0]))
    assert [result.settings["padded_rows"] for result in results] == [list(range(STEPS))] * 3
    latents, results = by_the_engine(components, uniform(4), requests[:1])
    assert_close(latents, by_diffusers(components, requests[:1], [1] * STEPS))
    assert results[0].settings["fusion_rows"] == [1] * STEPS


@pytest.mark.parametrize("scale", [1.0, 3.0], ids=["plain", "guided"])
def test_those_that_come_later_fuse_among_themselves(components, scale):
    pipeline = Watched(components)
    engine = engine_of(pipeline, uniform(2))
    requests = requests_for(4, scale)
    for request in requests[:2]:
        engine.submit(request)
    for _ in range(3):
        engine.step()
    for request in requests[2:]:
        engine.submit(request)
    while engine.busy:
        engine.step()
    results = engine.collect()
    assert [result.settings["fusion_rows"] for result in results] == [[2] * STEPS] * 4
    pairs = [by_diffusers(components, pair, [2] * STEPS) for pair in (requests[:2], requests[2:])]
    assert_close(torch.stack(pipeline.finished), torch.cat(pairs))


def test_one_image_an_evaluation_is_the_plain_model_bit_for_bit(tiny_model, tmp_path):
    source = tiny_model("sd1")
    (tmp_path / "fused").mkdir()
    write(collect([source], untrained=[2]), source, tmp_path / "fused")
    requests = [request.model_copy(update={"solver": "ddim"}) for request in requests_for(4, 5.0)]
    plain, fused = (Engine(load(folder)).generate(requests) for folder in (source, tmp_path / "fused"))
    for one, other in zip(plain, fused, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.settings == other.settings


@pytest.mark.parametrize(
    ("factors", "policy", "expected"),
    [((2,), None, [2] * 4), ((1, 2, 4), None, [4, 4, 2, 1]), ((1, 4), [[4, 0.25], [1, 0.75]], [4, 1, 1, 1])],
)
def test_a_folder_says_which_factors_it_has_and_how_it_uses_them(tmp_path, factors, policy, expected):
    pipeline = load(text_model(tmp_path / "model", fused_text_unet(factors, policy)))
    assert (pipeline.fusion_factors, pipeline.columns) == (factors, {"fusion"})
    engine = Engine(pipeline)
    results = engine.generate([Request(prompt=prompt, seed=3, steps=4, guidance_scale=3.0) for prompt in PROMPTS])
    assert [result.settings["fusion_rows"] for result in results] == [expected] * 4
    three = engine.plan(Request(prompt="rain", steps=4)).with_columns(fusion=3)
    with pytest.raises(PlanError, match="K=3"):
        engine.submit(Request(prompt="rain", steps=4), three)

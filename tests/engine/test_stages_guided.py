"""Guided pictures of a class-conditional network with stages, from a folder: alone, in company, and by diffusers."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from fused_models import BETAS
from headrace.engine import Engine, EngineSettings
from headrace.errors import RequestError
from headrace.models.pipelines.loading import load
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.request import Request
from headrace.techniques.multistage.network import MultistageUNet2DModel
from headrace.techniques.multistage.schedule import Stages
from tiny_networks import pixel_unet

BOUNDARIES = [0.12, 0.21]  # of a kernel that stops at t = 0.31, so that every stage has steps
CLASSES = 3
OWN = {
    "vp": lambda: DDIMScheduler(**BETAS),
    "edm": lambda: EDMEulerScheduler(sigma_max=2.0),
    "flow": lambda: FlowMatchEulerDiscreteScheduler(),
}
SOLVERS = [
    *(("vp", name) for name in ("ddim", "ddpm", "dpm++2m", "dpm++3s", "euler-a", "heun", "unipc-karras")),
    *(("edm", name) for name in ("edm-euler", "edm-dpm++2m")),
    *(("flow", name) for name in ("flow-euler", "flow-heun", "flow-unipc")),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model for each process: three classes, and one that stands for none."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        unet = pixel_unet(num_class_embeds=CLASSES + 1)
        settings = {name: value for name, value in unet.config.items() if not name.startswith("_")}
        network = MultistageUNet2DModel(settings, [24, 16, 8], BOUNDARIES).eval().requires_grad_(False)
        network.register_to_config(null_class=CLASSES)
        for decoder in network.stage_decoders:
            decoder.conv_out.weight.mul_(4)
        network.encoders[0].class_embedding.weight.mul_(3)
    made = {}
    for name, scheduler in OWN.items():
        made[name] = tmp_path_factory.mktemp(name) / "model"
        DDPMPipeline(network, scheduler()).save_pretrained(made[name])
    return made


class Watched(PixelPipeline):
    """Keeps the stages and guidance branches of each call, and the latents that it is given to decode."""

    def __init__(self, folder):
        pipeline = load(folder)
        super().__init__(pipeline.components, pipeline.name)
        self.finished, self.calls = [], []

    def evaluate(self, rows):
        self.calls.append((rows.columns["stage"].tolist(), rows.branches.tolist()))
        return super().evaluate(rows)

    def decode(self, latents):
        self.finished += latents.clone().unbind(0)
        return super().decode(latents)


def pictures(folder, batches):
    pipeline = Watched(folder)
    engine = Engine(pipeline, EngineSettings(channels_last=False))
    results = [result for batch in batches for result in engine.generate(batch)]
    assert [result.error for result in results] == [None] * len(results)
    return pipeline, results, [np.asarray(result.image).astype(int) for result in results]


@pytest.mark.parametrize(("process", "solver"), SOLVERS)
def test_pictures_in_company_are_those_alone(folders, process, solver):
    """Other step counts, scales and classes beside: rows of several stages and both branches share calls."""
    requests = [
        Request(seed=seed, steps=steps, solver=solver, class_label=seed, guidance_scale=scale)
        for seed, steps, scale in ((0, 4, 3.0), (1, 9, 1.0), (2, 7, 1.5))
    ]
    together, results, mixed = pictures(folders[process], [requests])
    _, _, alone = pictures(folders[process], [[one] for one in requests])
    assert any(len(set(stages)) > 1 and len(set(branches)) > 1 for stages, branches in together.calls)
    assert len(set(results[1].plan.stage.tolist())) > 1  # boundaries lie inside the trajectory
    for one, other in zip(mixed, alone, strict=True):
        assert one.std() > 10
        assert np.abs(one - other).max() <= 1  # of 255, rounding


def test_a_guided_picture_is_that_of_a_loop_around_diffusers(folders):
    steps, scale, label = 6, 3.0, 1
    pipeline, results, _ = pictures(
        folders["vp"], [[Request(seed=4, steps=steps, class_label=label, guidance_scale=scale)]]
    )
    unet, scheduler = pipeline.network, DDIMScheduler(**BETAS)
    alphas = scheduler.alphas_cumprod.double().numpy()
    stages = Stages(BOUNDARIES).of_level(np.sqrt(alphas), np.sqrt(1 - alphas))
    assert set(results[0].plan.stage.tolist()) == {0, 1, 2}
    scheduler.set_timesteps(steps)
    x = torch.randn((1, 3, 16, 16), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        for t in scheduler.timesteps:
            stage = int(stages[int(t)])
            told, null = (unet(x, t, torch.tensor([one]), stage=stage).sample for one in (label, CLASSES))
            x = scheduler.step(null + scale * (told - null), t, x).prev_sample
    torch.testing.assert_close(pipeline.finished[0], x[0], rtol=1e-4, atol=1e-4)


def test_what_stands_for_no_class_cannot_be_asked_for(folders):
    engine = Engine(load(folders["vp"]))
    with pytest.raises(RequestError, match="3 classes"):
        engine.submit(Request(steps=2, class_label=CLASSES))
    plan = engine.plan(Request(steps=2, class_label=0))
    assert (plan.guidance == 1.0).all()  # guided where asked alone

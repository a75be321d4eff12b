"""A model served with the stages of an artefact, and artefacts of other stages."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline

from headrace.engine import Engine
from headrace.engine.acceleration import load_acceleration
from headrace.errors import ArtefactError
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.request import Request
from headrace.techniques.multistage.artefact import StagesArtefact
from headrace.techniques.multistage.network import MultistageUNet2DModel
from headrace.techniques.multistage.schedule import Stages
from tiny_networks import pixel_unet


@pytest.fixture
def file(tmp_path):
    def write(*boundaries):
        stages = Stages(boundaries)
        artefact = StagesArtefact(
            model="pictures", weights="0", method="optimal-denoiser", data="pictures", images=9, kernel="vp",
            samples=4, boundaries=stages.boundaries, sigmas=stages.sigmas,
        )  # fmt: skip
        artefact.save(tmp_path / "stages.json")
        return tmp_path / "stages.json"

    return write


@pytest.fixture(scope="module")
def pipelines():
    with torch.no_grad():
        plain = pixel_unet()
    settings = {name: value for name, value in plain.config.items() if not name.startswith("_")}
    staged = MultistageUNet2DModel(settings, [16, 8], [0.4321]).eval()
    return [PixelPipeline(DDPMPipeline(unet, DDIMScheduler()), name) for unet, name in ((plain, "p"), (staged, "s"))]


def test_rows_get_the_stages_of_the_artefact(pipelines, file):
    decide = load_acceleration(file(0.432)).attach(pipelines[1])
    engine = Engine(pipelines[1], decide=decide)
    plan = engine.plan(Request(steps=10))
    assert plan == Engine(pipelines[1]).plan(Request(steps=10))
    assert set(plan.stage.tolist()) == {0, 1}


@pytest.mark.parametrize("boundaries", [(0.5,), (0.432, 0.6), ()])
def test_an_artefact_of_other_stages_is_refused(pipelines, file, boundaries):
    with pytest.raises(ArtefactError, match=r"trained with \(0.4321,\)"):
        load_acceleration(file(*boundaries)).attach(pipelines[1])


def test_a_network_with_one_decoder_has_no_stages(pipelines, file):
    with pytest.raises(ArtefactError, match="one decoder"):
        load_acceleration(file(0.4)).attach(pipelines[0])


def test_its_identity_is_that_of_its_boundaries(file):
    identities = {load_acceleration(file(*cuts)).identity for cuts in ((0.4,), (0.5,), (0.4,))}
    assert len(identities) == 2

"""Training of networks with a decoder for each stage: who learns what, from what they start, and what is exported."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_recipes
import torch

from headrace.engine import Engine
from headrace.errors import RecipeError
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.multistage.artefact import StagesArtefact
from headrace.techniques.multistage.network import MultistageUNet2DModel
from headrace.techniques.multistage.schedule import Stages
from headrace.training.run import RunOptions, train

PROCESSES = {
    "vp": {"kind": "variance-preserving", "min_snr_gamma": 5.0},
    "edm": {"kind": "edm"},
    "flow matching": {"kind": "flow-matching", "times": "logit-normal"},
}
STAGES = {"boundaries": [0.3, 0.6], "decoders": [16, 8, [4, 8]]}
LOOP = tiny_recipes.LOOP | {"batch_size": 4}


@pytest.fixture
def data(tmp_path):
    return tiny_recipes.write_parquet(tmp_path / "pictures.parquet")


def recipe(data, **phase):
    return tiny_recipes.diffusion(data, **{"stages": STAGES, **phase})


def objective(data, **phase):
    return tiny_recipes.diffusion_objective(data, **{"stages": STAGES, **phase})


def expected_stages(made, batch):
    """By the definition: the signal-to-noise ratio of what the network is shown."""
    levels = made.process.levels(batch["uniform"])
    clean, noise = torch.zeros(len(levels), 3, 16, 16), torch.ones(len(levels), 3, 16, 16)
    if hasattr(made.process, "output_coefficients"):
        return Stages(STAGES["boundaries"]).of_level(np.ones(len(levels)), levels.numpy())
    sigma = made.process.noised(clean, noise, levels).input[:, 0, 0, 0]
    signal = made.process.noised(noise, clean, levels).input[:, 0, 0, 0]
    return Stages(STAGES["boundaries"]).of_level(signal.numpy(), sigma.numpy())


@pytest.mark.parametrize("process", PROCESSES)
def test_each_sample_goes_to_its_stages_decoder_and_all_share_one_encoder_call(data, process):
    made = objective(data, process=PROCESSES[process])
    batch = tiny_recipes.draw(made, 3, 24) | {"uniform": torch.linspace(0.001, 0.9999, 24)}
    expected = expected_stages(made, batch)
    assert set(expected.tolist()) == {0, 1, 2}
    calls, rows = [], {}
    made.unet.encoders[0].register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    for number, decoder in enumerate(made.unet.stage_decoders):
        decoder.register_forward_hook(lambda _, __, out, number=number: rows.update({number: len(out)}))
    losses = made.eval()(batch)
    assert calls == [24]
    assert rows == {stage: int((expected == stage).sum()) for stage in range(3)}
    assert torch.isfinite(losses["loss"])


@pytest.mark.parametrize("process", PROCESSES)
def test_one_decoder_of_the_encoders_width_learns_as_the_unified_network_does(data, process):
    """Loss and gradients are those of the plain network with the same weights."""
    staged = objective(data, process=PROCESSES[process], stages={"boundaries": [0.4], "decoders": [8, 8]})
    plain = objective(data, process=PROCESSES[process], stages=None)
    staged.unet.initialise_from(plain.unet)
    batch = tiny_recipes.draw(plain, 5)
    losses = [made(batch)["loss"] for made in (plain, staged)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    for loss in losses:
        loss.backward()
    gradients = plain.unet.conv_in.weight.grad, staged.unet.encoders[0].conv_in.weight.grad
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    of_decoders = [decoder.conv_out.weight.grad for decoder in staged.unet.stage_decoders]
    torch.testing.assert_close(plain.unet.conv_out.weight.grad, sum(of_decoders), rtol=1e-4, atol=1e-6)


def test_it_starts_from_a_unified_checkpoint_and_from_its_own_kind(data, tmp_path):
    unified = objective(data, stages=None).unet
    unified.save_pretrained(tmp_path / "unified" / "unet")
    network = objective(data, initial=str(tmp_path / "unified")).unet
    assert torch.equal(network.encoders[0].conv_in.weight, unified.conv_in.weight)
    assert torch.equal(network.stage_decoders[1].conv_out.weight, unified.conv_out.weight)
    network.save_pretrained(tmp_path / "staged" / "unet")
    again = objective(data, initial=str(tmp_path / "staged")).unet
    weights = again.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("shared", [True, False])
def test_a_trained_model_is_exported_and_served_with_its_stages(data, tmp_path, shared):
    values = recipe(data, stages=STAGES | {"shared": shared}, sample_steps=4)
    pipeline = load(train(values, RunOptions(out=tmp_path / "run")))
    assert isinstance(pipeline.network, MultistageUNet2DModel)
    assert len(pipeline.network.encoders) == (1 if shared else 3)
    result = Engine(pipeline).generate([Request(steps=6)])[0]
    assert result.error is None
    assert set(result.plan.stage.tolist()) == {0, 1, 2}


def test_held_out_losses_are_told_by_stage(data):
    made = objective(data, stages=STAGES)
    made.data = replace(made.data, held_out=made.data)
    scores = made.eval().scores()
    parts = {name for name in scores if name != "held_out_loss"}
    assert parts
    assert parts <= {"held_out_loss_0", "held_out_loss_1", "held_out_loss_2"}


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        ({"stages": {"boundaries": [0.6, 0.3], "decoders": [8, 8, 8]}}, "do not increase"),
        ({"stages": {"boundaries": [1.5], "decoders": [8, 8]}}, "between 0 and 1"),
        ({"stages": {"boundaries": [0.5], "decoders": [8]}}, "1 decoders"),
        ({"stages": {"boundaries": [], "decoders": [9]}}, "groups"),
        ({"stages": {"decoders": [8]}}, "boundaries"),
        ({"stages": STAGES | {"artefact": "stages.json"}}, "either"),
        ({"stages": {"artefact": "nowhere.json", "decoders": [8]}}, "nowhere"),
        ({"stages": STAGES, "fusion": 4, "fusion_kind": "patch-grid"}, "patch grid"),
    ],
)
def test_stages_that_do_not_fit_are_refused(data, phase, says):
    with pytest.raises(RecipeError, match=says):
        objective(data, **phase)


def test_stages_follow_the_plan(data):
    """What a decoder learns is what it is asked for: training and planning agree at every timestep."""
    made = objective(data)
    engine = Engine(made.pipeline())
    plan = engine.plan(Request(steps=50))
    levels = torch.tensor(plan.timestep).long()
    signal, sigma = (part.numpy() for part in made.process.parts(levels))
    assert plan.stage.tolist() == made.stages.of_level(signal, sigma).tolist()


def test_boundaries_may_come_from_an_artefact(data, tmp_path):
    stages = Stages((0.25, 0.5))
    StagesArtefact(
        model="pictures", weights="0", method="timestep", data="pictures", images=0, kernel="vp", samples=0,
        boundaries=stages.boundaries, sigmas=stages.sigmas,
    ).save(tmp_path / "stages.json")  # fmt: skip
    made = objective(data, stages={"artefact": str(tmp_path / "stages.json"), "decoders": [8, 8, 8]})
    assert made.unet.stages == made.stages == stages
    with pytest.raises(RecipeError, match="2 decoders"):
        objective(data, stages={"artefact": str(tmp_path / "stages.json"), "decoders": [8, 8]})

"""Training in groups (FuseBatch): which pictures share an evaluation, what they share, and what comes of it."""

import json

import diffusers
import numpy as np
import pytest
import tiny_recipes
import torch

from headrace.engine import Engine
from headrace.errors import DataError, RecipeError
from headrace.request import Request
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel
from headrace.techniques.fusebatch.patch_grid import PatchGridUNet2DModel
from headrace.training.data import load_images
from headrace.training.export import export_pipeline
from headrace.training.objectives.diffusion import DiffusionObjective
from headrace.training.order import batch_indices
from headrace.training.run import RunOptions, train

PROCESSES = {
    "vp": {"kind": "variance-preserving", "min_snr_gamma": 5.0},
    "v": {"kind": "variance-preserving", "solver": {"prediction_type": "v_prediction"}},
    "edm": {"kind": "edm"},
    "flow matching": {"kind": "flow-matching", "times": "logit-normal"},
}
LOOP = tiny_recipes.LOOP | {"batch_size": 4}


@pytest.mark.parametrize("fusion", [2, 4])
def test_a_group_has_one_noise_level_and_a_noise_for_each_picture(labelled, fusion):
    made = tiny_recipes.diffusion_objective(labelled, fusion=fusion)
    draws = made.draws(16, torch.Generator().manual_seed(0))
    groups = draws["uniform"].reshape(-1, fusion)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0].tolist())) == 16 // fusion
    noise = draws["noise"].flatten(1)
    assert (noise[0] - noise[1]).abs().max() > 1
    assert made.group == fusion
    assert isinstance(made.unet, FuseBatchUNet2DModel)


def test_one_picture_a_group_is_the_plain_network_and_the_same_draws(labelled):
    plain, one = tiny_recipes.diffusion_objective(labelled), tiny_recipes.diffusion_objective(labelled, fusion=1)
    assert type(one.unet) is diffusers.UNet2DModel
    for name, values in tiny_recipes.draw(plain, 5).items():
        assert torch.equal(values, tiny_recipes.draw(one, 5)[name])


def test_no_picture_is_in_a_group_with_itself():
    """7 pictures in groups of 4: each pass has one whole group, and none begins in one pass and ends in the next."""
    order = np.concatenate([batch_indices(0, step, 8, 7, 4) for step in range(20)])
    groups = order.reshape(-1, 4)
    assert all(len(set(group)) == 4 for group in groups)
    assert set(order) == set(range(7))
    assert len({tuple(sorted(group)) for group in groups}) > 10  # every pass has other groups
    assert batch_indices(0, 3, 8, 64, 4).tolist() == batch_indices(0, 3, 8, 64).tolist()


@pytest.mark.parametrize(
    ("process", "phase"),
    [
        ("vp", {"fusion": 2}),
        ("vp", {"fusion": 2, "classes": 3}),
        ("v", {"fusion": 4, "fusion_kernel": 5}),
        ("edm", {"fusion": 2}),
        ("flow matching", {"fusion": 4, "classes": 3}),
        ("vp", {"fusion": 4, "fusion_kind": "patch-grid", "classes": 3}),
        ("vp", {"fusion": 2, "low_resolution": {"share": 0.5, "scale": 0.5}}),
    ],
)
def test_the_loss_falls(labelled, process, phase):
    made = tiny_recipes.diffusion_objective(labelled, process=PROCESSES[process], **phase)
    assert tiny_recipes.loss_after_training(made) < 0.85


def test_the_loss_is_of_each_picture_against_its_own_noise(labelled):
    """Written out: two groups, one timestep each, one call; the answer for each picture against what it should be."""
    made = tiny_recipes.diffusion_objective(labelled, fusion=2, classes=3)
    batch = tiny_recipes.draw(made, 0, 4)
    levels = made.process.levels(batch["uniform"])
    clean = torch.where(batch["mirrored"][:, None, None, None], batch["images"].flip(-1), batch["images"])
    noisy = made.process.solver.add_noise(clean, batch["noise"], levels)
    answer = made.unet(noisy, levels, class_labels=batch["labels"], fusion=2).sample
    assert torch.allclose(made(batch)["unweighted"], (answer - batch["noise"]).square().mean(), rtol=1e-5)


def test_held_out_pictures_are_scored_in_groups_too(labelled):
    one = tiny_recipes.diffusion(labelled, fusion=4, classes=3)
    one = one.model_copy(update={"data": one.data.model_copy(update={"held_out": str(labelled)})})
    made = DiffusionObjective(one.phases["diffusion"], load_images(one.data), labelled.parent / "model").eval()
    with torch.no_grad():
        first, second = made.scores(), made.scores()
    assert first == second
    assert 0.3 < first["held_out_loss"] < 3


@pytest.mark.parametrize(
    ("phase", "kind"),
    [
        ({"fusion": 2, "fusion_kernel": 5}, FuseBatchUNet2DModel),
        ({"fusion": 4, "fusion_kind": "patch-grid"}, PatchGridUNet2DModel),
    ],
)
def test_a_run_makes_a_folder_with_the_networks_own_class(labelled, tmp_path, phase, kind):
    folder = train(tiny_recipes.diffusion(labelled, classes=3, **phase), RunOptions(out=tmp_path / "run"))
    index = json.loads((folder / "model_index.json").read_text())
    assert index["unet"] == ["headrace", kind.__name__]
    assert index["_class_name"] == "DDPMPipeline"
    loaded = kind.from_pretrained(folder / "unet")
    assert loaded.factors == (phase["fusion"],)
    assert loaded.config.get("kernel_size") == phase.get("fusion_kernel")
    results = Engine.from_pretrained(folder).generate([Request(steps=3, seed=seed, class_label=1) for seed in range(5)])
    assert all(result.pixels.shape == (16, 16, 3) for result in results)
    assert (results[0].pixels != results[1].pixels).any()
    assert results[0].settings["fusion_rows"] == [phase["fusion"]] * 3
    record = json.loads((folder / "training.json").read_text())
    assert record["phases"]["diffusion"]["images_seen"] == 8 * 4
    assert record["recipe"]["phases"]["diffusion"]["fusion"] == phase["fusion"]


def test_a_trained_network_of_single_pictures_starts_the_body(labelled, tmp_path):
    plain = tiny_recipes.diffusion_objective(labelled)
    plain.export(tmp_path / "model")
    export_pipeline(tmp_path / "model", tmp_path / "plain", torch.float32)
    for phase in ({"fusion": 2, "classes": 3}, {"fusion": 4, "fusion_kind": "patch-grid"}):
        made = tiny_recipes.diffusion_objective(labelled, initial=str(tmp_path / "plain"), **phase)
        found = made.unet.state_dict()
        [name] = [name for name in found if name.endswith("mid_block.resnets.0.conv1.weight")]
        assert torch.equal(found[name], plain.unet.state_dict()["mid_block.resnets.0.conv1.weight"])


def test_a_fused_network_goes_on_from_its_own_folder(labelled, tmp_path):
    first = tiny_recipes.diffusion_objective(labelled, fusion=2)
    first.export(tmp_path / "model")
    made = tiny_recipes.diffusion_objective(labelled, fusion=2, initial=str(tmp_path / "model"))
    assert all(torch.equal(one, made.unet.state_dict()[name]) for name, one in first.unet.state_dict().items())
    with pytest.raises(RecipeError, match="another network"):
        tiny_recipes.diffusion_objective(labelled, fusion=4, initial=str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ({"fusion": 3}, r"fusion = 3 is not accepted.*loop\.batch_size is 4, which is not a multiple"),
        ({"fusion": 0}, r"fusion = 0 is not accepted"),
        ({"fusion": 2, "fusion_kernel": 4}, r"fusion_kernel = 4 is not accepted"),
        ({"fusion_kernel": 5, "fusion": 1}, r"nothing to fuse"),
        ({"fusion": 2, "fusion_kind": "patch-grid"}, r"takes fusion = 4"),
        ({"fusion": 2, "fusion_kind": "grid"}, r"fusion_kind = 'grid' is not accepted"),
        ({"fusions": 2}, r"unknown key.*Did you mean 'fusion'"),
    ],
)
def test_bad_values_are_named_before_anything_is_loaded(labelled, phase, words):
    with pytest.raises(RecipeError, match=words):
        tiny_recipes.diffusion(labelled, **phase)


def test_what_cannot_be_fused_is_said_before_any_work(labelled):
    with pytest.raises(RecipeError, match="cannot be fused"):
        tiny_recipes.diffusion_objective(
            labelled,
            fusion=2,
            network=tiny_recipes.NETWORK | {"down_block_types": ["SkipDownBlock2D", "AttnDownBlock2D"]},
        )
    loop = LOOP | {"batch_size": 16}
    with pytest.raises(DataError, match="8 pictures, and groups are of 16"):
        tiny_recipes.diffusion_objective(labelled, fusion=16, loop=loop)

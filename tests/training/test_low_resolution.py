"""Training at mixed resolution: which items are small, what they hold, and that without them nothing changes."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_recipes
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from torch.nn.functional import interpolate

from headrace.errors import RecipeError
from headrace.training.data import load_images
from headrace.training.objectives.autoencoder import AutoencoderObjective
from headrace.training.objectives.diffusion import DiffusionObjective
from headrace.training.objectives.text_to_image import TextToImageObjective
from headrace.training.processes.edm import EDM
from headrace.training.processes.flow_matching import FlowMatching
from headrace.training.processes.variance_preserving import VariancePreserving
from headrace.training.recipe import parse_recipe
from headrace.training.run import RunOptions, train
from headrace.training.spaces.low_resolution import low_side, shrunk_pictures

TWO_LEVELS = {
    **tiny_recipes.UNET,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [8, 8],
}
PIXELS = {
    "objective": "diffusion",
    "network": {
        "block_out_channels": [8, 8],
        "down_block_types": ["DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "sample_steps": 2,
    "loop": tiny_recipes.LOOP,
}


def recipe(data, low, **phase):
    values = tiny_recipes.recipe(data)
    del values["phases"]["decoder"]
    values["phases"]["diffusion"] |= {"network": TWO_LEVELS, **phase}
    if low is not None:
        values["phases"]["diffusion"]["low_resolution"] = low
    return parse_recipe(values)


def text_objective(one, folder):
    torch.manual_seed(0)
    data = load_images(one.data)
    AutoencoderObjective(one.phases["autoencoder"], data, folder).export(folder)
    return TextToImageObjective(one.phases["diffusion"], data, folder)


def pixel_objective(data, low, folder):
    values = tiny_recipes.recipe(data)
    values["phases"] = {"diffusion": PIXELS | ({} if low is None else {"low_resolution": low})}
    one = parse_recipe(values)
    torch.manual_seed(0)
    return DiffusionObjective(one.phases["diffusion"], load_images(one.data), folder)


def drawn(objective, count=6):
    batch = objective.batch(np.arange(count)) | objective.draws(count, torch.Generator().manual_seed(0))
    return batch | {"uniform": (torch.arange(count) + 0.5) / count}  # every noise level its share


class Inputs:
    """The shapes and timesteps that a network is called with."""

    def __init__(self, network):
        self.calls = []
        network.register_forward_pre_hook(lambda _, args: self.calls.append((tuple(args[0].shape), args[1].tolist())))


@pytest.mark.parametrize("resized", ["latents", "pictures"])
def test_noisy_items_are_learnt_small_and_each_item_once(parquet, tmp_path, resized):
    objective = text_objective(recipe(parquet, {"share": 0.5, "scale": 0.5, "resized": resized}), tmp_path)
    seen = Inputs(objective.unet)
    batch = drawn(objective)
    objective(batch)["loss"].backward()
    timesteps = objective.process.levels(batch["uniform"]).tolist()
    assert seen.calls == [((3, 4, 8, 8), timesteps[:3]), ((3, 4, 4, 4), timesteps[3:])]
    assert min(timesteps[3:]) >= 500 > max(timesteps[:3])
    assert all(parameter.grad is not None for parameter in objective.unet.parameters())


def test_what_is_small_is_an_average_of_the_latents_or_the_encoding_of_small_pictures(parquet, tmp_path):
    made = {}
    for resized in ("latents", "pictures"):
        low = {"share": 0.5, "scale": 0.5, "resized": resized}
        objective = text_objective(recipe(parquet, low), tmp_path / resized)
        batch = drawn(objective) | {"posterior": torch.zeros(6, 4, 8, 8)}
        full = objective.space.clean(batch)
        made[resized] = objective.low.clean(batch, full)
    means = full.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean(dim=(3, 5))
    assert torch.allclose(made["latents"], means, atol=1e-6)
    small = objective.space.over(shrunk_pictures(objective.data.images, 8))
    expected = small.clean(
        small.batch(torch.arange(6), torch.device("cpu"))
        | {"posterior": torch.zeros(6, 4, 4, 4)}
        | {"mirrored": torch.zeros(6, dtype=torch.bool)}
    )
    assert torch.equal(made["pictures"], expected)
    assert not torch.allclose(made["pictures"], made["latents"], atol=1e-2)


def test_the_loss_is_the_mean_over_both_sizes(parquet, tmp_path):
    """Written out: each half of the items by itself, at its own size, against its own target."""
    objective = pixel_objective(parquet, {"share": 0.5, "scale": 0.5}, tmp_path)
    batch = drawn(objective)
    found = objective(batch)["unweighted"]
    clean, levels = objective.space.clean(batch), objective.process.levels(batch["uniform"])
    errors = []
    for rows, side in ((slice(0, 3), 16), (slice(3, 6), 8)):
        data, noise = interpolate(clean[rows], size=(side, side), mode="area"), batch["noise"][rows, :, :side, :side]
        noised = objective.process.noised(data, noise, levels[rows])
        output = objective.unet(noised.input, noised.timestep, return_dict=False)[0]
        errors.append((output - noised.target).square().mean(dim=(1, 2, 3)))
    assert torch.allclose(found, torch.cat(errors).mean(), rtol=1e-5)


@pytest.mark.parametrize("low", [{"share": 0.0, "scale": 0.5}, {"share": 0.5, "scale": 1.0}])
def test_a_share_of_none_and_a_scale_of_one_train_the_same_weights_to_the_bit(parquet, tmp_path, low):
    weights = []
    for number, table in enumerate((None, low)):
        train(recipe(parquet, table), RunOptions(out=tmp_path / str(number)))
        unet = (tmp_path / str(number) / "model" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
        weights.append((unet, losses(tmp_path / str(number))))
    assert weights[0] == weights[1]


def test_low_rows_draw_no_randomness_of_their_own(parquet, tmp_path):
    """With every noise level above the boundary the losses are those of a run without small items, to the bit."""
    plain, mixed = (
        pixel_objective(parquet, low, tmp_path / str(number))
        for number, low in enumerate((None, {"share": 0.5, "scale": 0.5}))
    )
    draws = [one.draws(6, torch.Generator().manual_seed(3)) for one in (plain, mixed)]
    assert all(torch.equal(draws[0][name], draws[1][name]) for name in draws[0])
    late = {"uniform": draws[0]["uniform"] / 2}
    one, other = (
        made(made.batch(np.arange(6)) | drawn | late) for made, drawn in zip((plain, mixed), draws, strict=True)
    )
    assert torch.equal(one["loss"], other["loss"])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_the_early_share_is_that_of_the_steps_that_sampling_takes(share):
    """A fine sampling: as many of its rows are early as the share says."""
    made = {
        "vp": VariancePreserving(DDIMScheduler(timestep_spacing="trailing")),
        "flow": FlowMatching(FlowMatchEulerDiscreteScheduler(shift=3.0)),
        "edm": EDM(EDMEulerScheduler()),
    }
    for name, process in made.items():
        process.solver.set_timesteps(500)
        levels = process.solver.timesteps if name == "vp" else process.solver.sigmas[:-1]
        early = process.early(levels, share)
        assert abs(float(early.float().mean()) - share) <= 0.01, name
        assert early.tolist() == sorted(early.tolist(), reverse=True)


def test_the_low_size_is_one_that_the_network_takes():
    assert low_side(64, 0.5, 8) == 32
    assert low_side(64, 0.55, 8) == 32
    assert low_side(64, 0.5625, 8) == 40  # a half is rounded up
    assert low_side(64, 0.01, 8) == 8
    with pytest.raises(RecipeError, match=r"scale = 0\.5 of 8 gives 8"):
        low_side(8, 0.5, 8)


@pytest.mark.parametrize(
    ("low", "words"),
    [
        ({"share": 1.5, "scale": 0.5}, "low_resolution.share = 1.5"),
        ({"share": 0.5, "scale": 0.0}, "low_resolution.scale = 0.0"),
        ({"share": 0.5, "scale": 0.5, "resized": "both"}, "low_resolution.resized = 'both'"),
        ({"share": 0.5}, "low_resolution.scale' is missing"),
        ({"share": 0.5, "scales": 0.5, "scale": 0.5}, "Did you mean 'scale'"),
    ],
)
def test_bad_values_are_named(parquet, low, words):
    with pytest.raises(RecipeError, match=words.replace(".", r"\.")):
        recipe(parquet, low)


@pytest.fixture
def trained(parquet, tmp_path):
    """The folder of a tiny model, trained at one size."""
    return train(recipe(parquet, None), RunOptions(out=tmp_path / "trained"))


def tuning(data, initial, **phase):
    """A recipe that goes on from a model, its noisy half at half size."""
    values = tiny_recipes.recipe(data)
    own = {"objective": "text-to-image", "loop": tiny_recipes.LOOP, "initial": str(initial)}
    low = {"low_resolution": {"share": 0.5, "scale": 0.5}, "train_text_encoder": False}
    return parse_recipe(values | {"name": "tuned", "phases": {"diffusion": own | low | phase}})


def test_tuning_goes_on_from_a_model_and_leaves_its_other_parts_alone(parquet, trained, tmp_path):
    folder = train(tuning(parquet, trained), RunOptions(out=tmp_path / "run"))
    for part in ("vae", "text_encoder"):
        file = "diffusion_pytorch_model.safetensors" if part == "vae" else "model.safetensors"
        assert (folder / part / file).read_bytes() == (trained / part / file).read_bytes()
    for file in ("vocab.json", "merges.txt"):
        assert (folder / "tokenizer" / file).read_bytes() == (trained / "tokenizer" / file).read_bytes()
    weights = [path / "unet" / "diffusion_pytorch_model.safetensors" for path in (folder, trained)]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    solver = "scheduler/scheduler_config.json"
    assert '"prediction_type": "v_prediction"' in (folder / solver).read_text()  # though the recipe does not say


def test_a_killed_tuning_goes_on_without_the_model_it_began_with(parquet, trained, tmp_path):
    """Killed before anything was exported: the working folder has held every part since the start."""
    one = tuning(parquet, trained)
    TextToImageObjective(one.phases["diffusion"], load_images(one.data), tmp_path / "killed" / "model")
    train(one, RunOptions(out=tmp_path / "whole"))
    first = Path("diffusion") / "checkpoints" / "step-00000004"
    shutil.copytree(tmp_path / "whole" / first, tmp_path / "killed" / first)
    shutil.copy(tmp_path / "whole" / "diffusion" / "log.csv", tmp_path / "killed" / "diffusion" / "log.csv")
    shutil.rmtree(trained)
    train(one, RunOptions(out=tmp_path / "killed", resume=True))
    assert len(losses(tmp_path / "killed")) == 8
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    exported = [
        tmp_path / run / "tuned" / "unet" / "diffusion_pytorch_model.safetensors" for run in ("whole", "killed")
    ]
    assert exported[0].read_bytes() == exported[1].read_bytes()


def test_bad_starts(parquet, trained, tmp_path):
    with pytest.raises(RecipeError, match=r"diffusion\.initial.*leave network and text_encoder out"):
        tuning(parquet, trained, network={"layers_per_block": 1})
    shutil.rmtree(trained / "tokenizer")
    with pytest.raises(RecipeError, match="has no tokenizer"):
        train(tuning(parquet, trained), RunOptions(out=tmp_path / "run"))
    with pytest.raises(RecipeError, match="has no vae, text_encoder, tokenizer"):
        train(tuning(parquet, "cifar10-ddpm-small"), RunOptions(out=tmp_path / "run"))


def losses(folder):
    with (folder / "diffusion" / "log.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]

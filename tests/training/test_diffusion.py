"""Networks of every process, space and conditioning: they learn, and diffusers makes of their exports what we do."""

import json

import diffusers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_recipes
import torch

import tiny_networks
from headrace.engine import Engine, EngineSettings
from headrace.errors import DataError, RecipeError, SolverError, TrainingError
from headrace.models import solvers
from headrace.request import Request
from headrace.training.data import load_images
from headrace.training.export import export_pipeline
from headrace.training.objectives.autoencoder import AutoencoderObjective
from headrace.training.objectives.diffusion import DiffusionObjective
from headrace.training.objectives.text_to_image import TextToImageObjective
from headrace.training.recipe import parse_recipe
from headrace.training.run import RunOptions, train

PROCESSES = {
    "epsilon": {"kind": "variance-preserving", "min_snr_gamma": 5.0},
    "v, cosine": {
        "kind": "variance-preserving",
        "solver": {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"},
    },
    "data": {"kind": "variance-preserving", "solver": {"prediction_type": "sample"}},
    "edm": {"kind": "edm"},
    "flow matching": {"kind": "flow-matching", "times": "logit-normal"},
}
LABELS = [number % 3 for number in range(len(tiny_recipes.CAPTIONS))]


@pytest.fixture
def labelled(tmp_path):
    images = [tiny_recipes.encoded(picture) for picture in tiny_recipes.pictures()]
    table = pa.table({"image": images, "caption": list(tiny_recipes.CAPTIONS), "label": LABELS})
    pq.write_table(table, tmp_path / "labelled.parquet")
    return tmp_path / "labelled.parquet"


def recipe(data, **phase):
    """A recipe with an autoencoder's phase and one of diffusion, whose keys are given."""
    values = tiny_recipes.recipe(data)
    diffusion = {
        "objective": "diffusion",
        "loop": tiny_recipes.LOOP,
        "network": tiny_recipes.NETWORK,
        "sample_steps": 4,
    }
    del values["phases"]["decoder"]
    values["phases"]["diffusion"] = {**diffusion, **phase}
    if phase.get("space") != "latent":
        del values["phases"]["autoencoder"]
    return parse_recipe(values)


def objective(one, folder):
    """The objective of the recipe's diffusion phase, its autoencoder untrained but normalised."""
    torch.manual_seed(0)
    data = load_images(one.data)
    if "autoencoder" in one.phases:
        AutoencoderObjective(one.phases["autoencoder"], data, folder).export(folder)
    return DiffusionObjective(one.phases["diffusion"], data, folder)


def draw(made, seed, repeats=1):
    """A batch of all pictures, some times over, with everything random in it."""
    indices = np.tile(np.arange(made.item_count()), repeats)
    return made.batch(indices) | made.draws(len(indices), torch.Generator().manual_seed(seed))


def fraction_left(made, steps=50):
    """Of the loss, after so many optimiser steps, on draws that were not learnt."""
    unseen = draw(made, 10**6, repeats=20)
    with torch.no_grad():
        before = made(unseen)["loss"].item()
    optimizer = torch.optim.Adam(made.trainable(), lr=4e-3)
    for seed in range(steps):
        optimizer.zero_grad()
        made(draw(made, seed))["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        return made(unseen)["loss"].item() / before


# Every process on both spaces, every other one with classes: each process and each space comes with and without.
CASES = [
    (process, space, 3 if (row + column) % 2 else None)
    for row, process in enumerate(PROCESSES)
    for column, space in enumerate(("pixel", "latent"))
]


@pytest.mark.parametrize(("process", "space", "classes"), CASES)
def test_the_loss_falls(labelled, tmp_path, process, space, classes):
    made = objective(recipe(labelled, process=PROCESSES[process], space=space, classes=classes), tmp_path)
    # The latents of an untrained encoder are nearly noise, of which little can be learnt.
    assert fraction_left(made) < (0.8 if space == "pixel" else 0.98)


@pytest.mark.parametrize("process", ["v, cosine", "edm", "flow matching"])
def test_text_on_latents_learns_with_every_process(labelled, tmp_path, process):
    values = tiny_recipes.recipe(labelled)
    values["phases"]["diffusion"]["process"] = PROCESSES[process]
    one = parse_recipe(values)
    torch.manual_seed(0)
    data = load_images(one.data)
    AutoencoderObjective(one.phases["autoencoder"], data, tmp_path).export(tmp_path)
    made = TextToImageObjective(one.phases["diffusion"], data, tmp_path)
    assert fraction_left(made) < 0.98
    assert made.generate(["red circle"]).shape == (1, 3, 16, 16)


# What diffusers itself makes of an export. Its ConsistencyModelPipeline is the one loop over a U-Net alone that scales
# the network's input and takes classes; its DDPMPipeline does neither.
PIPELINES = [
    ("epsilon", "pixel", None, "DDIMPipeline", "ddim"),
    ("v, cosine", "pixel", None, "DDPMPipeline", "ddpm"),
    ("data", "pixel", 3, "ConsistencyModelPipeline", None),
    ("edm", "pixel", None, "ConsistencyModelPipeline", None),
    ("edm", "pixel", 3, "ConsistencyModelPipeline", None),
    ("flow matching", "pixel", None, "DDPMPipeline", None),
    ("epsilon", "latent", None, "LDMPipeline", None),
    ("v, cosine", "latent", None, "LDMPipeline", None),
    ("edm", "latent", None, "LDMPipeline", None),
]


@pytest.mark.parametrize(("process", "space", "classes", "pipeline", "solver"), PIPELINES)
def test_an_export_is_the_same_model_in_diffusers(labelled, tmp_path, process, space, classes, pipeline, solver):
    made = objective(recipe(labelled, process=PROCESSES[process], space=space, classes=classes), tmp_path)
    fraction_left(made, steps=20)
    made.export(tmp_path)
    export_pipeline(tmp_path, tmp_path / "tiny", torch.float32)
    index = json.loads((tmp_path / "tiny" / "model_index.json").read_text())
    assert index["_class_name"] == ("LDMPipeline" if space == "latent" else "DDPMPipeline")
    label = {} if classes is None else {"class_label": 1}
    engine = Engine.from_pretrained(tmp_path / "tiny", dtype=torch.float32)
    [result] = engine.generate([Request(seed=3, steps=6, solver=solver, **label)])
    reference = getattr(diffusers, pipeline).from_pretrained(tmp_path / "tiny", local_files_only=True)
    reference.set_progress_bar_config(disable=True)
    if solver is not None:
        reference.scheduler = solvers.build(solver, reference.scheduler.config)
    if pipeline == "ConsistencyModelPipeline" and classes is not None:
        label = {"class_labels": [1]}
    [image] = reference(generator=torch.Generator().manual_seed(3), num_inference_steps=6, **label).images
    difference = np.abs(np.asarray(image).astype(int) - result.pixels.astype(int))
    assert result.pixels.std() > 5
    assert difference.max() <= 3
    assert (difference <= 1).mean() > 0.995


@pytest.mark.parametrize("space", ["pixel", "latent"])
def test_the_class_changes_the_picture_and_must_be_given(labelled, tmp_path, space):
    made = objective(recipe(labelled, space=space, classes=3), tmp_path)
    fraction_left(made, steps=20)
    engine = Engine(made.pipeline(), EngineSettings(channels_last=False))
    results = engine.generate([Request(class_label=label, steps=5, seed=0) for label in (0, 1, 2, 0)])
    pictures = [result.pixels for result in results]
    assert (pictures[0] == pictures[3]).all()
    assert (pictures[0] != pictures[1]).any()
    assert (pictures[1] != pictures[2]).any()
    with pytest.raises(Exception, match="class_label"):
        engine.generate([Request(steps=5)])
    assert made.sample_grid().width > 100


def test_the_phases_of_a_latent_model_make_a_folder_that_the_engine_loads(labelled, tmp_path):
    one = recipe(labelled, space="latent", classes=3, process=PROCESSES["edm"])
    folder = train(one, RunOptions(out=tmp_path / "run"))
    assert folder == tmp_path / "run" / "tiny"
    record = json.loads((folder / "training.json").read_text())
    phase = record["phases"]["diffusion"]
    assert (phase["steps"], phase["images_seen"]) == (8, 16)
    assert 0 < phase["last_figures"]["loss"] < 5
    assert list(record["phases"]) == ["autoencoder", "diffusion"]
    assert record["recipe"]["phases"]["diffusion"]["process"]["log_sigma_mean"] == -1.2
    assert record["recipe"]["data"]["path"] == "labelled.parquet"  # not where it lay on this machine
    [result] = Engine.from_pretrained(folder).generate([Request(class_label=2, steps=3)])
    assert result.pixels.shape == (16, 16, 3)


def test_a_quantised_autoencoder_of_another_folder(labelled, tmp_path):
    torch.manual_seed(0)
    with torch.no_grad():
        tiny_networks.quantised_autoencoder().save_pretrained(tmp_path / "vq")
    made = objective(recipe(labelled, space="latent", autoencoder=str(tmp_path / "vq")), tmp_path / "model")
    assert made.unet.config.in_channels == 3
    assert fraction_left(made, steps=20) < 1
    made.export(tmp_path / "model")
    export_pipeline(tmp_path / "model", tmp_path / "tiny", torch.float32)
    [result] = Engine.from_pretrained(tmp_path / "tiny").generate([Request(steps=4, seed=3)])
    reference = diffusers.LDMPipeline.from_pretrained(tmp_path / "tiny", local_files_only=True)
    reference.set_progress_bar_config(disable=True)
    [image] = reference(generator=torch.Generator().manual_seed(3), num_inference_steps=4).images
    difference = np.abs(np.asarray(image).astype(int) - result.pixels.astype(int))
    assert (difference <= 1).mean() > 0.99


def test_a_mirrored_draw_is_the_mirror_images_latent(labelled, tmp_path):
    made = objective(recipe(labelled, space="latent"), tmp_path)
    batch = draw(made, 0)
    batch["posterior"] = torch.zeros_like(batch["posterior"])
    batch["mirrored"] = torch.tensor([True, False] * 3)
    clean = made.space.clean(batch)
    images = torch.where(batch["mirrored"][:, None, None, None], made.data.images.flip(-1), made.data.images)
    encoded = made.space.autoencoder.encode(images / 127.5 - 1).latent_dist.mean
    assert torch.allclose(clean, encoded * made.space.autoencoder.config.scaling_factor, atol=1e-4)
    assert not torch.allclose(batch["mean"].flip(-1), batch["mirrored_mean"], atol=1e-2)


def test_the_held_out_loss_is_of_other_pictures_and_always_the_same(labelled, tmp_path):
    for space in ("pixel", "latent"):
        one = recipe(labelled, space=space, classes=3)
        one = one.model_copy(update={"data": one.data.model_copy(update={"held_out": str(labelled)})})
        made = objective(one, tmp_path)
        made.eval()
        with torch.no_grad():
            first, second = made.scores(), made.scores()
        assert first == second
        assert 0.3 < first["held_out_loss"] < 3


@pytest.mark.parametrize(
    ("phase", "error", "word"),
    [
        ({"network": tiny_recipes.NETWORK | {"sample_size": 32}}, RecipeError, "sample_size is 32"),
        ({"network": tiny_recipes.NETWORK | {"in_channels": 4}}, RecipeError, "in_channels is 4"),
        ({"network": tiny_recipes.NETWORK | {"num_class_embeds": 4}}, RecipeError, "num_class_embeds is 4"),
        ({"network": tiny_recipes.NETWORK | {"layers": 4}}, RecipeError, "layers"),
        ({"autoencoder": "somewhere"}, RecipeError, "pixels"),
        ({"space": "latent", "autoencoder": "nowhere"}, RecipeError, "nowhere"),
        ({"classes": 2}, DataError, "label"),
        ({"network": tiny_recipes.NETWORK | {"time_embedding_type": "fourier"}}, RecipeError, "fourier"),
        (
            {"process": {"kind": "flow-matching", "solver": {"use_dynamic_shifting": True}}},
            SolverError,
            "FlowMatchEuler",
        ),
    ],
)
def test_what_does_not_fit_together_is_said_before_any_work(labelled, tmp_path, phase, error, word):
    with pytest.raises(error, match=word):
        objective(recipe(labelled, **phase), tmp_path)


def test_latents_without_an_autoencoder(labelled, tmp_path):
    one = recipe(labelled, space="latent")
    with pytest.raises(TrainingError, match="no autoencoder"):
        DiffusionObjective(one.phases["diffusion"], load_images(one.data), tmp_path)

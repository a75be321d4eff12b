"""FB-AE: training of an autoencoder of K pictures a latent, and of diffusion on such latents."""

import json

import numpy as np
import pytest
import tiny_recipes
import torch

from headrace.engine import Engine
from headrace.errors import DataError, RecipeError
from headrace.request import Request
from headrace.techniques.fusebatch.autoencoder import FuseBatchAutoencoderKL
from headrace.training.data import load_images
from headrace.training.objectives.autoencoder import AutoencoderObjective, reconstruct
from headrace.training.objectives.diffusion import DiffusionObjective
from headrace.training.objectives.text_to_image import TextToImageObjective
from headrace.training.recipe import parse_recipe
from headrace.training.run import RunOptions, train

UNET = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
LOOP = tiny_recipes.LOOP | {"batch_size": 4}


@pytest.fixture
def shapes(tmp_path):
    return tiny_recipes.write_parquet(tmp_path / "shapes.parquet", repeats=2)


def recipe(data, pictures=2, autoencoder=None, decoder=None, **phase):
    ours = {"objective": "autoencoder", "network": tiny_recipes.AUTOENCODER, "loop": LOOP, "fusion": pictures}
    diffusion = {"objective": "diffusion", "space": "latent", "network": UNET, "loop": LOOP, "sample_steps": 2}
    phases = {"autoencoder": ours | (autoencoder or {}), "diffusion": diffusion | phase}
    if decoder is not None:
        phases["decoder"] = {"objective": "autoencoder", "train_encoder": False, "loop": LOOP, **decoder}
    data = {"path": str(data), "size": 16}
    return parse_recipe({"name": "tiny", "seed": 3, "data": data, "phases": phases})


def autoencoder_objective(one, folder, name="autoencoder"):
    torch.manual_seed(0)
    return AutoencoderObjective(one.phases[name], load_images(one.data), folder)


def diffusion_objective(one, folder):
    autoencoder_objective(one, folder).export(folder)
    return DiffusionObjective(one.phases["diffusion"], load_images(one.data), folder)


def draw(made, seed, count=12):
    return made.batch(np.arange(count)) | made.draws(count, torch.Generator().manual_seed(seed))


def losses(made, steps=50, rate=4e-3):
    """Before and after so many steps, on draws that were not learnt."""
    unseen = [draw(made, 10**6 + number) for number in range(6)]

    @torch.no_grad()
    def loss():
        return float(np.mean([made(batch)["loss"].item() for batch in unseen]))

    before = loss()
    optimizer = torch.optim.Adam(made.trainable(), lr=rate)
    for seed in range(steps):
        optimizer.zero_grad()
        made(draw(made, seed))["loss"].backward()
        optimizer.step()
    return before, loss()


def test_a_fused_autoencoder_learns_to_give_each_picture_back(shapes, tmp_path):
    made = autoencoder_objective(recipe(shapes), tmp_path)
    assert made.group == 2
    before, after = losses(made, steps=50, rate=1e-2)
    assert after < 0.8 * before
    images = made.data.images[:6]
    assert reconstruct(made.autoencoder, images).shape == images.shape
    assert made.sample_grid().height > 16
    assert made.scores()["psnr"] > 5


def test_exported_latents_have_unit_deviation_and_the_same_reconstructions(shapes, tmp_path):
    made = autoencoder_objective(recipe(shapes), tmp_path)
    before = reconstruct(made.autoencoder, made.data.images)
    made.export(tmp_path)
    loaded = FuseBatchAutoencoderKL.from_pretrained(tmp_path / "vae")
    assert (reconstruct(loaded, made.data.images).int() - before.int()).abs().max() <= 1
    with torch.no_grad():
        posterior = loaded.encode(made.data.images / 127.5 - 1).latent_dist
    assert posterior.mean.shape == (6, 4, 8, 8)
    total = posterior.mean.var(dim=(0, 2, 3), correction=0) + posterior.std.square().mean(dim=(0, 2, 3))
    assert torch.allclose(total, torch.ones(4), atol=0.02)


def test_an_item_of_the_latent_space_is_the_encoding_of_a_group(shapes, tmp_path):
    made = diffusion_objective(recipe(shapes), tmp_path)
    batch = draw(made, 0, 4) | {"mirrored": torch.tensor([False, True, True, False])}
    shown = made.data.images[:4] / 127.5 - 1
    shown[[1, 2]] = shown[[1, 2]].flip(-1)
    with torch.no_grad():
        posterior = made.space.autoencoder.encode(shown).latent_dist
    expected = posterior.mean + posterior.std * batch["posterior"][[0, 2]]
    assert torch.allclose(made.space.clean(batch), expected, atol=1e-5)
    error, weight = made.errors(batch)
    assert error.shape == weight.shape == (2,)
    assert made.group == 2


def test_diffusion_learns_on_fused_latents(shapes, tmp_path):
    before, after = losses(diffusion_objective(recipe(shapes), tmp_path))
    assert after < 0.98 * before  # the latents of an untrained encoder are nearly noise


def test_fb_unet_on_the_latents_of_single_pictures_is_the_comparison(shapes, tmp_path):
    made = diffusion_objective(recipe(shapes, pictures=1, fusion=2), tmp_path)
    assert made.unet.config.in_channels == 4
    before, after = losses(made)
    assert after < 0.98 * before


def test_the_phases_make_a_folder_with_the_fused_autoencoder(shapes, tmp_path):
    folder = train(recipe(shapes, decoder={"latent_noise": 0.1}), RunOptions(out=tmp_path / "run"))
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "LDMPipeline"
    assert index["vqvae"] == ["headrace", "FuseBatchAutoencoderKL"]
    assert index["unet"] == ["diffusers", "UNet2DModel"]
    [result] = Engine.from_pretrained(folder).generate([Request(steps=3, seed=1)])
    assert [image.size for image in result.images] == [(16, 16)] * 2


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ({"fusion": 2}, "fusion is set, and a latent of the autoencoder is of 2 pictures already"),
        ({"low_resolution": {"share": 0.5, "scale": 0.5}}, "low_resolution is set"),
        ({"loop": LOOP | {"batch_size": 3}}, "batch_size is 3, and a latent of the autoencoder is of 2"),
    ],
)
def test_what_a_fused_latent_cannot_be_combined_with(shapes, tmp_path, phase, words):
    with pytest.raises(RecipeError, match=words):
        diffusion_objective(recipe(shapes, **phase), tmp_path)


def test_a_caption_is_of_one_picture(shapes, tmp_path):
    values = tiny_recipes.recipe(shapes)
    values["phases"]["autoencoder"] |= {"fusion": 2, "loop": LOOP}
    one = parse_recipe(values)
    autoencoder_objective(one, tmp_path).export(tmp_path)
    with pytest.raises(RecipeError, match="is of 2 pictures, and one of 1 is needed"):
        TextToImageObjective(one.phases["diffusion"], load_images(one.data), tmp_path)


def test_a_decoder_that_goes_on_alone_has_the_k_of_its_autoencoder(shapes, tmp_path):
    one = recipe(shapes, decoder={})
    autoencoder_objective(one, tmp_path).export(tmp_path)
    assert autoencoder_objective(one, tmp_path, "decoder").group == 2
    with pytest.raises(RecipeError, match="fusion is 4, and a latent"):
        autoencoder_objective(recipe(shapes, decoder={"fusion": 4}), tmp_path, "decoder")


def test_too_few_pictures_and_refused_networks(shapes, tmp_path):
    loop = LOOP | {"batch_size": 16}
    with pytest.raises(DataError, match="12 pictures, and groups are of 16"):
        autoencoder_objective(recipe(shapes, pictures=16, autoencoder={"loop": loop}), tmp_path)
    network = tiny_recipes.AUTOENCODER | {"layers": 2}
    with pytest.raises(RecipeError, match="refused"):
        autoencoder_objective(recipe(shapes, autoencoder={"network": network}), tmp_path)

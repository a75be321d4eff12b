"""Training text-to-image networks in groups (FuseBatch): K pictures, each with its caption, at one noise level."""

import json

import diffusers
import pytest
import tiny_recipes
import torch

from headrace.engine import Engine
from headrace.errors import DataError, RecipeError
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.fusebatch.collection import collect, write
from headrace.techniques.fusebatch.text_network import FuseBatchUNet2DConditionModel
from headrace.training.data import load_images
from headrace.training.objectives.autoencoder import AutoencoderObjective
from headrace.training.objectives.text_to_image import TextToImageObjective
from headrace.training.recipe import parse_recipe
from headrace.training.run import RunOptions, train

LOOP = tiny_recipes.LOOP | {"batch_size": 4}


def recipe_for(parquet, **phase):
    values = tiny_recipes.recipe(parquet)
    shared = {"loop": LOOP, **phase}
    values["phases"]["diffusion"] |= shared
    if "initial" in phase:
        for name in ("network", "text_encoder", "process"):
            del values["phases"]["diffusion"][name]
        values["phases"] = {"diffusion": values["phases"]["diffusion"]}
        values["data"]["size"] = 64
    return parse_recipe(values)


@pytest.fixture
def objective(parquet, tmp_path):
    """objective(fusion=K, ...): with an untrained autoencoder, and the same weights each time."""

    def build(**phase):
        one, folder = recipe_for(parquet, **phase), tmp_path / "model"
        data = load_images(one.data)
        torch.manual_seed(0)
        if "initial" in phase:
            return TextToImageObjective(one.phases["diffusion"], data, tmp_path / "continued")
        AutoencoderObjective(one.phases["autoencoder"], data, folder).export(folder)
        return TextToImageObjective(one.phases["diffusion"], data, folder)

    return build


@pytest.fixture
def plain(tiny_model):
    return tiny_model("sd1")


def test_a_group_has_one_noise_level_and_keeps_or_loses_its_captions_together(objective):
    made = objective(fusion=4, caption_dropout=0.5)
    assert made.group == 4
    assert isinstance(made.unet, FuseBatchUNet2DConditionModel)
    draws = made.draws(64, torch.Generator().manual_seed(0))
    for name in ("uniform", "dropped"):
        groups = draws[name].reshape(-1, 4)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0].tolist())) > 1
    noise = draws["noise"].flatten(1)
    assert (noise[0] - noise[1]).abs().max() > 1


def test_one_picture_a_group_is_the_plain_network_and_the_same_draws(objective):
    without, one = objective(), objective(fusion=1)
    assert type(one.unet) is diffusers.UNet2DConditionModel
    for name, values in tiny_recipes.draw(without, 5).items():
        assert torch.equal(values, tiny_recipes.draw(one, 5)[name])


def test_the_loss_is_of_each_picture_with_its_caption_against_its_own_noise(objective):
    """Written out: two groups, one timestep each, one call."""
    made = objective(fusion=2, caption_dropout=0.0).eval()
    batch = tiny_recipes.draw(made, 0, 4)
    clean, levels = made.space.clean(batch), made.process.levels(batch["uniform"])
    noisy = made.process.solver.add_noise(clean, batch["noise"], levels)
    text = made.text_encoder(made.tokens[:4])[0]
    answer = made.unet(noisy, levels, encoder_hidden_states=text, fusion=2).sample
    target = made.process.solver.get_velocity(clean, batch["noise"], levels)
    assert torch.allclose(made(batch)["unweighted"], (answer - target).square().mean(), rtol=1e-4)


@pytest.mark.parametrize(
    "phase",
    [{"fusion": 2}, {"fusion": 4, "fusion_kernel": 5}, {"fusion": 2, "low_resolution": {"share": 0.5, "scale": 0.5}}],
)
def test_the_loss_falls(objective, phase):
    made = objective(process={"kind": "variance-preserving"}, **phase)
    assert tiny_recipes.loss_after_training(made) < 0.85


def test_a_run_makes_a_folder_whose_requests_fuse(parquet, tmp_path):
    folder = train(recipe_for(parquet, fusion=2), RunOptions(out=tmp_path / "run"))
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["unet"] == ["headrace", "FuseBatchUNet2DConditionModel"]
    requests = [Request(prompt=prompt, seed=1, steps=3, guidance_scale=3.0) for prompt in tiny_recipes.CAPTIONS[:4]]
    results = Engine.from_pretrained(folder, dtype=torch.float32).generate(requests)
    assert [result.settings["fusion_rows"] for result in results] == [[2] * 3] * 4
    assert all(result.pixels.shape == (16, 16, 3) for result in results)


def test_a_trained_stable_diffusion_starts_the_body_and_both_become_one_model(objective, parquet, plain, tmp_path):
    kept = {"fusion": 2, "train_text_encoder": False}
    made = objective(initial=str(plain), **kept)
    source = load(plain).network
    body = made.unet.networks["2"].body
    assert body.mid_block.resnets[0].conv1.weight.equal(source.mid_block.resnets[0].conv1.weight)
    folder = train(recipe_for(parquet, initial=str(plain), **kept), RunOptions(out=tmp_path / "run"))
    written = json.loads((folder / "unet" / "config.json").read_text())
    assert str(tmp_path) not in json.dumps(written)
    made = objective(initial=str(folder), **kept)
    assert made.unet.factors == (2,)
    taken = load(folder).network.state_dict()
    assert all(value.equal(taken[name].float()) for name, value in made.unet.state_dict().items())
    assert collect([plain, folder]).factors == (1, 2)


def test_a_collection_gives_the_network_of_the_recipes_factor_or_its_first(objective, plain, tmp_path):
    (tmp_path / "start").mkdir()
    write(collect([plain], untrained=[2]), plain, tmp_path / "start")
    start = load(tmp_path / "start").network
    made = {fusion: objective(initial=str(tmp_path / "start"), fusion=fusion).unet for fusion in (1, 2, 4)}
    assert made[1].conv_in.weight.equal(start.networks["1"].conv_in.weight)
    assert made[2].factors == (2,)
    assert made[2].networks["2"].fusion.expand.weight.equal(start.networks["2"].fusion.expand.weight)
    assert made[4].networks["4"].head.projection.weight.equal(start.networks["1"].conv_out.weight)
    with pytest.raises(RecipeError, match=r"fusion_kernel is 5, and the networks of initial = .* have 3"):
        objective(initial=str(tmp_path / "start"), fusion=2, fusion_kernel=5)


def test_what_cannot_be_fused_is_said_before_any_work(objective):
    with pytest.raises(RecipeError, match=r"loop\.batch_size is 4, which is not a multiple"):
        objective(fusion=3)
    with pytest.raises(RecipeError, match="addition_embed_type = 'text' cannot be fused"):
        objective(fusion=2, network=tiny_recipes.UNET | {"addition_embed_type": "text"})
    with pytest.raises(DataError, match="6 pictures, and groups are of 8"):
        objective(fusion=8, loop=LOOP | {"batch_size": 8})

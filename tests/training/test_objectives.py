import copy

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from headrace.errors import RecipeError, TrainingError
from headrace.training.data import load_images, to_signed
from headrace.training.export import export_pipeline, folder_bytes
from headrace.training.objectives.autoencoder import (
    AutoencoderObjective,
    build_autoencoder,
    normalise_latents,
)
from headrace.training.objectives.text_to_image import TextToImageObjective
from headrace.training.processes.variance_preserving import min_snr_weights
from headrace.training.run import RunOptions, train
from headrace.training.spaces.autoencoders import encode_moments


@pytest.fixture
def data(tiny_recipe):
    return load_images(tiny_recipe.data)


@pytest.fixture
def autoencoder(tiny_recipe, data, tmp_path):
    """The folder of an exported autoencoder, untrained."""
    torch.manual_seed(0)
    AutoencoderObjective(tiny_recipe.phases["autoencoder"], data, tmp_path).export(tmp_path)
    return tmp_path


def whole_batch(objective, count):
    """What the loop hands to `forward`: the first items and what is drawn for them."""
    return objective.batch(np.arange(count)) | objective.draws(count, torch.Generator().manual_seed(0))


def test_normalised_latents_have_unit_deviation_and_the_same_reconstructions(tiny_recipe, data):
    torch.manual_seed(0)
    before = build_autoencoder(tiny_recipe.phases["autoencoder"])
    after = copy.deepcopy(before)
    normalise_latents(after, data.images)
    means = [network.encode(to_signed(data.images)).latent_dist.mode() for network in (before, after)]
    pictures = [network.decode(mean).sample for network, mean in zip((before, after), means, strict=True)]
    assert torch.allclose(*pictures, atol=1e-5)
    mean, deviation = encode_moments(after, data.images)
    assert mean.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    total = mean.var(dim=(0, 2, 3)) + deviation.square().mean(dim=(0, 2, 3))
    assert torch.allclose(total, torch.ones_like(total), atol=1e-3)
    assert after.config.scaling_factor == 1.0


def test_a_decoder_phase_leaves_the_encoder_alone(tiny_recipe, data, autoencoder):
    objective = AutoencoderObjective(tiny_recipe.phases["decoder"], data, autoencoder)
    loss = objective(whole_batch(objective, 4))["loss"]
    loss.backward()
    frozen = [*objective.autoencoder.encoder.parameters(), *objective.autoencoder.quant_conv.parameters()]
    assert all(parameter.grad is None for parameter in frozen)
    assert all(parameter.grad is not None for parameter in objective.trainable())
    assert len(objective.trainable()) == len(list(objective.parameters())) - len(frozen)


def test_a_phase_that_needs_an_autoencoder_says_so(tiny_recipe, data, tmp_path):
    for phase in ("decoder", "diffusion"):
        objective = AutoencoderObjective if phase == "decoder" else TextToImageObjective
        with pytest.raises(TrainingError, match="no autoencoder"):
            objective(tiny_recipe.phases[phase], data, tmp_path)


def test_networks_that_the_libraries_refuse(tiny_recipe, data, autoencoder):
    phase = tiny_recipe.phases["autoencoder"].model_copy(update={"network": {"block_channels": [8]}})
    with pytest.raises(RecipeError, match="block_channels"):
        build_autoencoder(phase)
    phase = tiny_recipe.phases["diffusion"].model_copy(update={"network": {"down_block_types": ["None"]}})
    with pytest.raises(RecipeError, match="refused"):
        TextToImageObjective(phase, data, autoencoder)


def test_captions_are_encoded_as_the_pipeline_encodes_them(tiny_recipe, data, autoencoder):
    objective = TextToImageObjective(tiny_recipe.phases["diffusion"], data, autoencoder).eval()
    ours = objective.text_encoder(objective.tokenize(["red circle", ""]))[0]
    theirs, negative = objective.pipeline().encode_prompt("red circle", "cpu", 1, True)
    assert torch.allclose(ours[0], theirs[0], atol=1e-6)
    assert torch.allclose(ours[1], negative[0], atol=1e-6)


def test_caption_dropout_of_one_makes_the_caption_irrelevant(tiny_recipe, data, autoencoder):
    losses = []
    for dropout in (0.0, 1.0):
        torch.manual_seed(0)
        phase = tiny_recipe.phases["diffusion"].model_copy(update={"caption_dropout": dropout})
        objective = TextToImageObjective(phase, data, autoencoder)
        batch = whole_batch(objective, 4)
        other = {**batch, "tokens": batch["tokens"].flip(0)}
        pair = [objective(each)["loss"].item() for each in (batch, other)]
        losses.append(pair)
    assert losses[0][0] != losses[0][1]
    assert losses[1][0] == losses[1][1]


def test_min_snr_weights_of_both_prediction_types():
    timesteps = torch.tensor([0, 500, 999])
    noise = DDIMScheduler(beta_schedule="scaled_linear")
    velocity = DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    alphas = noise.alphas_cumprod[timesteps]
    ratio = alphas / (1 - alphas)
    assert torch.allclose(min_snr_weights(noise, timesteps, 5.0), ratio.clamp(max=5) / ratio)
    assert torch.allclose(min_snr_weights(velocity, timesteps, 5.0), ratio.clamp(max=5) / (ratio + 1))
    assert min_snr_weights(noise, timesteps, None).tolist() == [1, 1, 1]


def test_the_phases_make_a_folder_that_stable_diffusion_loads(tiny_recipe, tmp_path):
    folder = train(tiny_recipe, RunOptions(out=tmp_path / "run"))
    assert folder == tmp_path / "run" / "tiny"
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("red circle", num_inference_steps=2, height=16, width=16).images[0]
    assert picture.size == (16, 16)
    weights = sum(
        parameter.numel()
        for part in ("vae", "unet", "text_encoder")
        for parameter in getattr(pipeline, part).parameters()
    )
    assert 2 * weights < folder_bytes(folder) < 2 * weights + 100_000


def test_a_phase_alone_and_a_phase_that_is_not_there(tiny_recipe, tmp_path):
    assert train(tiny_recipe, RunOptions(out=tmp_path, phase="autoencoder")) == tmp_path / "model"
    with pytest.raises(TrainingError, match="text_encoder"):
        export_pipeline(tmp_path / "model", tmp_path / "tiny")
    with pytest.raises(RecipeError, match="no phase 'unet'"):
        train(tiny_recipe, RunOptions(out=tmp_path, phase="unet"))

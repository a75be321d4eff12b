"""The folder that is shipped: what it weighs, that diffusers loads it, and that it makes pictures of what is asked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, StableDiffusionPipeline

import headrace
from headrace.training.export import folder_bytes

FOLDER = Path(headrace.__file__).parent / "assets" / "emoji"
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def pipeline():
    loaded = StableDiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float32, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def picture(pipeline, prompt, **settings):
    generator = torch.Generator().manual_seed(0)
    settings = {
        "num_inference_steps": 8,
        "guidance_scale": 2.0,
        "generator": generator,
        "output_type": "np",
        **settings,
    }
    return pipeline(prompt, **settings).images[0]


def test_it_is_small_and_holds_safetensors_only():
    assert folder_bytes(FOLDER) <= 16 * MEBIBYTE
    suffixes = {path.suffix for path in FOLDER.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".txt", ".md"}
    assert (FOLDER / "README.md").exists()


def test_it_loads_in_float32_and_its_captions_are_not_truncated(pipeline):
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    assert pipeline.tokenizer.model_max_length == pipeline.text_encoder.config.max_position_embeddings
    for caption in ("person in motorized wheelchair facing right", "face with open eyes and hand over mouth"):
        assert len(pipeline.tokenizer(caption).input_ids) <= pipeline.tokenizer.model_max_length


@pytest.mark.parametrize("solver", [None, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler])
def test_it_makes_a_picture_of_what_is_asked(pipeline, solver):
    if solver is not None:
        pipeline.scheduler = solver.from_config(pipeline.scheduler.config)
    images = {prompt: picture(pipeline, prompt) for prompt in ("green circle", "red circle", "blue square")}
    assert all(image.shape == (64, 64, 3) and np.isfinite(image).all() for image in images.values())
    colours = {prompt: image[16:48, 16:48].mean(axis=(0, 1)).argmax() for prompt, image in images.items()}
    assert colours == {"red circle": 0, "green circle": 1, "blue square": 2}
    corners = np.stack([image[:3, :3] for image in images.values()])
    assert corners.mean() > 0.8

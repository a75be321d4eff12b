"""The recipes of the repository: valid, their networks can be built, and cost what the headers say."""

import re
from pathlib import Path

import pytest
import torch

from headrace.models.macs import count_macs
from headrace.training.network import build_network
from headrace.training.processes.build import build_process
from headrace.training.recipe import load_recipe
from headrace.training.spaces.space import Shape
from headrace.training.tables.diffusion import DiffusionPhase

RECIPES = Path(__file__).parents[2] / "recipes"
COST = re.compile(r"# ([\d.]+)M parameters, ([\d. /]+) GMAC a row")


def diffusion_phases():
    for path in sorted(RECIPES.glob("*.toml")):
        for name, phase in load_recipe(path).phases.items():
            if isinstance(phase, DiffusionPhase):
                yield pytest.param(path, name, id=path.stem)


def data_shape(recipe, phase):
    """Of pictures, or of the latents of the recipe's own autoencoder."""
    if phase.space == "pixel":
        return Shape(3, recipe.data.size)
    network = recipe.phases["autoencoder"].network
    return Shape(network["latent_channels"], recipe.data.size // 2 ** (len(network["block_out_channels"]) - 1))


@pytest.mark.parametrize(("path", "name"), diffusion_phases())
def test_a_recipes_network_costs_what_its_header_says(path, name):
    recipe = load_recipe(path)
    phase = recipe.phases[name]
    shape = data_shape(recipe, phase)
    with torch.device("meta"):
        unet = build_network(phase, shape).eval()
        rows = phase.fusion  # that share an evaluation
        sample, label = torch.zeros(rows, shape.channels, shape.size, shape.size), torch.zeros(rows, dtype=torch.long)
        classes = None if phase.classes is None else label
        stages = [{}] if phase.stages is None else [{"stage": stage} for stage in range(len(phase.stages.decoders))]
        times = torch.zeros(rows)
        macs = [
            count_macs(lambda stage=stage: unet(sample, times, class_labels=classes, **stage)).total / rows
            for stage in stages
        ]
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    header = COST.search(path.read_text(encoding="utf-8"))
    assert header is not None, "the header does not say what a row costs"
    assert header.groups() == (f"{parameters / 1e6:.2f}", " / ".join(f"{one / 1e9:.2f}" for one in macs))
    assert build_process(phase.process, phase.space == "latent").solver.config.num_train_timesteps == 1000


def test_the_papers_networks_are_there():
    found = {parameter.id for parameter in diffusion_phases()}
    assert found >= {
        *("cifar10-ddpm", "cifar10-ddpm-class", "cifar10-ddpm-64", "cifar10-ddpm-class-64", "celeba64-ddpm"),
        *("cifar10-flow-matching", "cifar10-edm", "cifar10-ddpmpp-deep", "celebahq256-ldm"),
        *("cifar10-ddpm-cpu", "cifar10-ddpm-class-cpu", "cifar10-ldm-cpu"),
        *("cifar10-ddpm-fb2", "cifar10-ddpm-fb4", "celebahq256-ldm-fbae2"),
        *("cifar10-ddpm-channel-reduced", "cifar10-ddpm-depth-reduced"),
        *("cifar10-ddpmpp", "cifar10-multistage", "cifar10-separate", "cifar10-multistage-edm"),
        *("celebahq256-multistage", "cifar10-multistage-cpu", "cifar10-separate-cpu"),
    }

"""Small text-conditioned U-Nets, and a plan with guidance for them."""

import copy

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler

from headrace.plan.trace import trace
from tiny_networks import TEXT_WIDTH, text_unet

REQUESTS, TOKENS, STEPS = 2, 5, 8
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _network(seed, **options):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        return text_unet(**options).requires_grad_(False)


@pytest.fixture(scope="session")
def _two_levels():
    return _network(11, layers_per_block=2)


@pytest.fixture(scope="session")
def _four_levels():
    return _network(
        12,
        layers_per_block=2,
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


@pytest.fixture
def network(_two_levels):
    """Two layers a level, attention on the upper of two."""
    return copy.deepcopy(_two_levels)


@pytest.fixture
def deep_network(_four_levels):
    """Stable Diffusion's plan of blocks: two layers a level, attention on three of four."""
    return copy.deepcopy(_four_levels)


@pytest.fixture
def flat_network():
    """One layer a level, as the embedded model has."""
    return _network(5)


@pytest.fixture(scope="session")
def plan():
    return trace(DPMSolverMultistepScheduler(**BETAS), STEPS).with_columns(guidance=5.0)


@pytest.fixture(scope="session")
def repeating_plan():
    """Heun tells the network most timesteps twice."""
    return trace(HeunDiscreteScheduler(**BETAS), 4).with_columns(guidance=5.0)


@pytest.fixture(scope="session")
def inputs():
    """First latents and the embeddings of both branches."""
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn((REQUESTS, 4, 8, 8), generator=generator)
    return latents, torch.randn((2 * REQUESTS, TOKENS, TEXT_WIDTH), generator=generator)


class Calls:
    """How often modules whose path ends in a suffix ran, and on how many rows: [(rows of each call)]."""

    def __init__(self, network, suffix):
        self.rows = {}
        for path, module in network.named_modules():
            if path.endswith(suffix):
                self.rows[path] = []
                module.register_forward_pre_hook(lambda _, args, path=path: self.rows[path].append(len(args[0])))

    def count(self, part=""):
        """Calls of all modules whose path holds `part`."""
        return sum(len(rows) for path, rows in self.rows.items() if part in path)


@pytest.fixture
def calls():
    return Calls


@pytest.fixture(scope="session")
def state_of():
    """What a module tree is made of: its modules, their attributes' names and any forward of an instance's own."""

    def state(network):
        return [
            (path, module, sorted(vars(module)), vars(module).get("forward"))
            for path, module in network.named_modules()
        ]

    return state

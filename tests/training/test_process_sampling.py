"""The loop closes: the network that minimises a process's loss, sampled with the process's solver, gives the data.

The data is one Gaussian, so that network has a closed form. Input and target are linear in data and noise, hence
jointly normal: the optimum E[target | input] follows from the four coefficients that `noised` puts there. The network
is told nothing but what the solver tells it, so scales, signs and timesteps that did not belong together would show.
Many steps, because the solvers' own error is a few percent of the deviation at twenty.
"""

from types import SimpleNamespace

import pytest
import torch
from diffusers.configuration_utils import FrozenDict
from torch import nn

from headrace.engine import Engine, EngineSettings
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.request import Request
from headrace.training.processes.build import build_process
from headrace.training.tables.processes import EDMTable, FlowMatchingTable, VariancePreservingTable

MEAN, DEVIATION, SIDE = 0.2, 0.25, 16

# How a level is read off what the network is told, as the papers have it.
INVERSE = {
    "variance-preserving": lambda timestep: timestep.round().long(),
    "edm": lambda timestep: (4 * timestep).exp(),
    "flow-matching": lambda timestep: timestep / 1000,
}
VP = "variance-preserving"


class Optimal(nn.Module):
    """E[target | input] for data N(MEAN, DEVIATION^2), independent for each element."""

    def __init__(self, process, level_of):
        super().__init__()
        self.process, self.level_of = process, level_of
        self.unused = nn.Parameter(torch.zeros(1))
        self.config = FrozenDict(sample_size=SIDE, in_channels=3, num_class_embeds=None, block_out_channels=(1,))

    def forward(self, sample, timestep, class_labels=None, return_dict=False):
        levels = self.level_of(timestep.double() if timestep.is_floating_point() else timestep).expand(len(sample))
        one, zero = torch.ones(len(sample), 1, 1, 1).double(), torch.zeros(len(sample), 1, 1, 1).double()
        of_data, of_noise = (self.process.noised(*given, levels) for given in ((one, zero), (zero, one)))
        covariance = of_data.input * of_data.target * DEVIATION**2 + of_noise.input * of_noise.target
        variance = (of_data.input * DEVIATION) ** 2 + of_noise.input**2
        answer = of_data.target * MEAN + covariance / variance * (sample - of_data.input * MEAN)
        return (answer.float(),)


def vp(prediction, schedule="linear", **options):
    solver = {"prediction_type": prediction, "beta_schedule": schedule, "timestep_spacing": "trailing", **options}
    return VariancePreservingTable(solver=solver)


EDM = EDMTable(kind="edm", solver={"sigma_data": 0.3})
EDM_V = EDMTable(kind="edm", solver={"prediction_type": "v_prediction"})
FLOW = FlowMatchingTable(kind="flow-matching")
SHIFTED = FlowMatchingTable(kind="flow-matching", solver={"shift": 3.0})


def optimal(table):
    process = build_process(table)
    return process, Optimal(process, INVERSE[table.kind])


@pytest.mark.parametrize(
    ("table", "solver", "steps"),
    [
        (vp("epsilon"), "ddim", 500),
        (vp("v_prediction"), "ddim", 500),
        (vp("sample"), "ddim", 500),
        (vp("epsilon"), None, 1000),
        (vp("v_prediction", "squaredcos_cap_v2"), "ddim", 500),
        (vp("epsilon", "squaredcos_cap_v2"), None, 1000),
        (vp("v_prediction", "scaled_linear", rescale_betas_zero_snr=True), "ddim", 500),
        (vp("epsilon"), "dpm++2m", 100),
        (EDM, None, 100),
        (EDM, "edm-dpm++2m", 30),
        (EDM_V, None, 100),
        (FLOW, None, 100),
        (FLOW, "flow-heun", 30),
        (SHIFTED, None, 300),
    ],
    ids=lambda value: "-".join([value.kind, *map(str, value.solver.values())]) if hasattr(value, "kind") else None,
)
def test_the_engine_gives_the_data_back(table, solver, steps):
    process, network = optimal(table)
    components = SimpleNamespace(unet=network, scheduler=process.solver)
    engine = Engine(PixelPipeline(components, "optimal"), EngineSettings(channels_last=False))
    requests = [Request(seed=seed, solver=solver, steps=steps) for seed in range(12)]
    pixels = torch.stack([torch.from_numpy(result.pixels) for result in engine.generate(requests)]).double()
    values = pixels / 127.5 - 1
    assert values.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert values.std().item() == pytest.approx(DEVIATION, abs=0.01)


@pytest.mark.parametrize("table", [vp("epsilon"), vp("v_prediction", "squaredcos_cap_v2"), EDM, EDM_V, FLOW, SHIFTED])
def test_diffusers_scheduler_gives_the_data_back(table):
    process, network = optimal(table)
    solver = type(process.solver).from_config(process.solver.config)
    solver.set_timesteps(1000)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(12, 3, SIDE, SIDE, generator=generator) * getattr(solver, "init_noise_sigma", 1.0)
    for timestep in solver.timesteps:
        given = solver.scale_model_input(sample, timestep) if hasattr(solver, "scale_model_input") else sample
        output = network(given, timestep[None])[0]
        sample = solver.step(output, timestep, sample, generator=generator).prev_sample
    assert sample.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert sample.std().item() == pytest.approx(DEVIATION, abs=0.01)


@pytest.mark.parametrize("table", [vp("epsilon"), vp("v_prediction"), EDM, EDM_V, FLOW])
def test_the_optimum_has_the_least_loss(table):
    """Against the same network a little scaled or shifted, on the loss that training minimises."""
    process, network = optimal(table)
    generator = torch.Generator().manual_seed(1)
    clean = MEAN + DEVIATION * torch.randn(4000, 3, 4, 4, generator=generator)
    noise, uniform = torch.randn(4000, 3, 4, 4, generator=generator), torch.rand(4000, generator=generator)
    made = process.noised(clean, noise, process.levels(uniform))
    answer = network(made.input, made.timestep)[0]

    def loss(output):
        return (made.weight * (output - made.target).square().mean(dim=(1, 2, 3))).mean().item()

    assert all(loss(answer) < loss(other) for other in (1.05 * answer, 0.95 * answer, answer + 0.05, answer - 0.05))

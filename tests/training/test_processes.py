"""Each process against the equations of its paper, for any data, noise and noise level."""

import math

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import RecipeError
from headrace.training.processes.build import build_process
from headrace.training.processes.edm import EDM
from headrace.training.processes.flow_matching import FlowMatching
from headrace.training.processes.variance_preserving import VariancePreserving, min_snr_weights
from headrace.training.tables.processes import EDMTable, FlowMatchingTable, VariancePreservingTable

# Below 1: at its last timestep float32 knows the cosine schedule's alpha to three digits only.
uniforms = st.lists(st.floats(0, 0.984375, width=32), min_size=1, max_size=5).map(torch.tensor)
schedules = st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2"])
seeds = st.integers(0, 2**31)


def pair(seed, count):
    """Data and noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, 3, 4, 4, generator=generator)


def column(values):
    return values[:, None, None, None]


@given(uniforms, seeds, schedules)
@settings(deadline=None, max_examples=50)
def test_noise_velocity_and_data_are_one_prediction(uniform, seed, schedule):
    clean, noise = pair(seed, len(uniform))
    made = {}
    for kind in ("epsilon", "v_prediction", "sample"):
        process = VariancePreserving(DDPMScheduler(beta_schedule=schedule, prediction_type=kind))
        made[kind] = process.noised(clean, noise, process.levels(uniform))
    noisy, timesteps = made["epsilon"].input, made["epsilon"].timestep
    alphas = process.solver.alphas_cumprod[timesteps]
    alpha, sigma = column(alphas.sqrt()), column((1 - alphas).sqrt())
    assert torch.allclose(noisy, alpha * clean + sigma * noise, atol=1e-5)
    velocity = made["v_prediction"].target
    assert torch.allclose(velocity, alpha * noise - sigma * clean, atol=1e-5)
    assert torch.allclose(alpha * noisy - sigma * velocity, clean, atol=1e-4)
    assert torch.allclose(sigma * noisy + alpha * velocity, noise, atol=1e-4)
    assert torch.equal(made["epsilon"].target, noise)
    assert torch.equal(made["sample"].target, clean)


@given(uniforms, st.floats(0.1, 20), schedules)
@settings(deadline=None, max_examples=50)
def test_min_snr_weights_the_same_loss_whatever_is_predicted(uniform, gamma, schedule):
    """An error e of the data is one of (alpha/sigma) e of the noise and of e / sigma of the velocity."""
    solvers = {
        kind: DDPMScheduler(beta_schedule=schedule, prediction_type=kind)
        for kind in ("epsilon", "v_prediction", "sample")
    }
    timesteps = VariancePreserving(solvers["epsilon"]).levels(uniform)
    alphas = solvers["epsilon"].alphas_cumprod[timesteps]
    ratio = alphas / (1 - alphas)
    expected = ratio.clamp(max=gamma)
    factors = {"epsilon": ratio, "v_prediction": 1 / (1 - alphas), "sample": torch.ones_like(ratio)}
    for kind, factor in factors.items():
        weights = min_snr_weights(solvers[kind], timesteps, gamma)
        assert torch.allclose(weights * factor, expected, rtol=1e-4)


def test_min_snr_weights_where_no_signal_is_left():
    solver = DDPMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert min_snr_weights(solver, torch.tensor([999]), 5.0).item() == pytest.approx(0.0, abs=1e-6)
    assert min_snr_weights(solver, torch.tensor([999]), None).item() == 1.0


@given(uniforms, seeds, st.floats(0.1, 2.0), st.sampled_from(["epsilon", "v_prediction"]))
@settings(deadline=None, max_examples=50)
def test_edm_is_equation_7_with_the_coefficients_of_table_1(uniform, seed, sigma_data, kind):
    process = EDM(EDMEulerScheduler(sigma_data=sigma_data, prediction_type=kind))
    clean, noise = pair(seed, len(uniform))
    sigma = process.levels(uniform)
    made = process.noised(clean, noise, sigma)
    total = sigma**2 + sigma_data**2
    c_skip, c_in = sigma_data**2 / total, 1 / total.sqrt()
    c_out = sigma * sigma_data / total.sqrt() * (1 if kind == "epsilon" else -1)
    noisy = clean + column(sigma) * noise
    assert torch.allclose(made.input, column(c_in) * noisy, rtol=1e-4, atol=1e-5)
    assert torch.allclose(made.timestep, sigma.log() / 4, rtol=1e-4, atol=1e-5)
    # A network that answers the target denoises exactly.
    assert torch.allclose(column(c_skip) * noisy + column(c_out) * made.target, clean, rtol=1e-3, atol=1e-4)
    # lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 of the denoiser's error is 1 of the network's.
    assert torch.allclose(total / (sigma * sigma_data) ** 2 * c_out**2, made.weight, rtol=1e-4)


@given(seeds)
@settings(deadline=None, max_examples=10)
def test_edm_targets_have_unit_variance_where_the_data_has_sigma_data(seed):
    """Equation 144 of the paper's appendix: what c_out and c_in are made for."""
    process = EDM(EDMEulerScheduler(sigma_data=0.5))
    generator = torch.Generator().manual_seed(seed)
    noise, clean = torch.randn(2, 3, 1, 200, 200, generator=generator)
    made = process.noised(0.5 * clean, noise, process.levels(torch.tensor([0.05, 0.5, 0.95])))
    for values in (made.input, made.target):
        assert torch.allclose(values.flatten(1).std(dim=1), torch.ones(3), atol=0.03)


@given(uniforms, seeds, st.sampled_from(["uniform", "logit-normal"]))
@settings(deadline=None, max_examples=50)
def test_flow_matching_goes_straight_from_data_to_noise(uniform, seed, times):
    process = FlowMatching(FlowMatchEulerDiscreteScheduler(), times)
    clean, noise = pair(seed, len(uniform))
    level = process.levels(uniform)
    made = process.noised(clean, noise, level)
    assert torch.allclose(made.input - column(level) * made.target, clean, atol=1e-5)
    assert torch.allclose(made.input + column(1 - level) * made.target, noise, atol=1e-5)
    assert torch.allclose(made.timestep, 1000 * level)
    assert made.weight.tolist() == [1.0] * len(level)


def test_levels_have_the_distributions_that_the_papers_draw_from():
    uniform = (torch.arange(100_000) + 0.5) / 100_000
    timesteps = build_process(VariancePreservingTable()).levels(uniform)
    assert timesteps.bincount(minlength=1000).tolist() == [100] * 1000
    logarithms = build_process(EDMTable(kind="edm")).levels(uniform).log()
    assert (logarithms.mean().item(), logarithms.std().item()) == pytest.approx((-1.2, 1.2), abs=1e-3)
    table = FlowMatchingTable(kind="flow-matching", times="logit-normal", logit_mean=0.5, logit_deviation=0.8)
    logits = build_process(table).levels(uniform).logit()
    assert (logits.mean().item(), logits.std().item()) == pytest.approx((0.5, 0.8), abs=1e-3)
    quantile = 0.5 * (1 + math.erf((0.25 - 0.5) / 0.8 / math.sqrt(2)))
    assert (logits < 0.25).float().mean().item() == pytest.approx(quantile, abs=1e-4)
    assert torch.equal(build_process(FlowMatchingTable(kind="flow-matching")).levels(uniform), uniform)


@pytest.mark.parametrize("table", [EDMTable(kind="edm"), FlowMatchingTable(kind="flow-matching", times="logit-normal")])
def test_no_draw_gives_an_infinite_level(table):
    """A uniform draw can be exactly 0, of which a normal distribution makes minus infinity."""
    process = build_process(table)
    ends = process.levels(torch.tensor([0.0, 1.0 - 2**-24]))
    made = process.noised(*pair(0, 2), ends)
    assert all(torch.isfinite(part).all() for part in made)


def test_latents_are_never_clipped_by_default_and_pixels_are():
    solvers = {latent: build_process(VariancePreservingTable(), latent).solver for latent in (True, False)}
    assert [solvers[latent].config.clip_sample for latent in (True, False)] == [False, True]


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (VariancePreservingTable(solver={"beta_shedule": "linear"}), "beta_shedule"),
        (VariancePreservingTable(solver={"beta_schedule": "quadratic"}), "quadratic"),
        (VariancePreservingTable(solver={"prediction_type": "score"}), "score"),
        (EDMTable(kind="edm", solver={"sigma_schedule": "cubic"}), "cubic"),
        (FlowMatchingTable(kind="flow-matching", solver={"shfit": 2.0}), "shfit"),
    ],
)
def test_options_that_diffusers_refuses_are_named(table, word):
    with pytest.raises(RecipeError, match=word):
        build_process(table)

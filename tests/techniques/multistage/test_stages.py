"""Stages of denoising: boundaries, noise levels of every kernel, plans of every solver, equation 23."""

import numpy as np
import pytest
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from headrace.errors import PlanError
from headrace.models import solvers
from headrace.plan.plan import Plan
from headrace.plan.trace import trace
from headrace.techniques.multistage.schedule import (
    PAPER,
    Stages,
    assign,
    interpolated,
    rows_per_stage,
    sigma_of,
    time_of,
)

THREE = PAPER[3]
FAMILIES = {
    "EDM": EDMEulerScheduler(),
    "flow matching": FlowMatchEulerDiscreteScheduler(),
    "variance preserving": DDPMScheduler(beta_start=1e-4, beta_end=0.02),
}
TRACED = [name for name, spec in solvers.SOLVERS.items() if spec.family in FAMILIES]


@pytest.mark.parametrize(
    "boundaries", [(0.0, 0.5), (0.5, 1.0), (-0.1,), (1.2,), (float("nan"),), (0.6, 0.4), (0.5, 0.5)]
)
def test_boundaries_that_cut_nothing_are_refused(boundaries):
    with pytest.raises(PlanError, match="boundar"):
        Stages(boundaries)


def test_stage_zero_is_nearest_the_image_and_intervals_are_open_on_the_right():
    assert THREE.at([0.0, 0.4419, 0.442, 0.5, 0.63, 1.0]).tolist() == [0, 0, 1, 1, 2, 2]
    assert THREE.intervals == ((0.0, 0.442), (0.442, 0.630), (0.630, 1.0))
    assert Stages().at([0.0, 1.0]).tolist() == [0, 0]


def test_time_and_sigma_are_inverse_over_every_level_of_the_kernel():
    times = np.concatenate([[1e-9, 1e-6], np.linspace(0.001, 1, 50)])
    np.testing.assert_allclose(time_of(sigma_of(times)), times, rtol=1e-9)
    assert sigma_of(0.0) == 0.0
    assert np.isinf(time_of(np.inf))


def test_levels_of_equal_signal_to_noise_ratio_are_of_one_stage():
    times = np.linspace(0.01, 0.99, 99)
    sigma = sigma_of(times)
    signal = 1 / np.sqrt(1 + sigma**2)
    expected = THREE.at(times)
    assert (THREE.of_level(signal, signal * sigma) == expected).all()  # variance preserving
    assert (THREE.of_level(np.ones(99), sigma) == expected).all()  # variance exploding
    assert (THREE.of_level(1 / (1 + sigma), sigma / (1 + sigma)) == expected).all()  # a flow


def test_pure_noise_and_noise_beyond_the_kernel_are_of_the_last_stage():
    assert THREE.of_level([0.0, 1.0], [1.0, 1e6]).tolist() == [2, 2]


def test_boundaries_may_be_sigmas():
    assert Stages.from_sigmas(THREE.sigmas).boundaries == pytest.approx(THREE.boundaries)
    for sigmas in [(0.0,), (-1.0,), (1e6,), (3.0, 2.0)]:
        with pytest.raises(PlanError, match="boundar"):
            Stages.from_sigmas(sigmas)


@pytest.mark.parametrize("name", TRACED)
def test_every_traced_solver_has_its_rows_assigned(name):
    model = FAMILIES[solvers.SOLVERS[name].family]
    plan = assign(trace(solvers.build(name, model.config), 12), THREE)
    assert set(plan.stage.tolist()) == {0, 1, 2}
    level = plan.sigma / np.maximum(plan.signal, 1e-12)
    order = np.argsort(level, kind="stable")
    assert (np.diff(plan.stage[order]) >= 0).all()  # no noisier row has an earlier decoder
    low, high = THREE.sigmas
    assert ((level < low) == (plan.stage == 0)).all()
    assert ((level >= high) == (plan.stage == 2)).all()


def test_times_of_the_discrete_linear_schedule_are_its_timesteps():
    """DDPM's linear schedule is the kernel of the paper in a thousand steps."""
    plan = trace(FAMILIES["variance preserving"], 1000)
    np.testing.assert_allclose(time_of(plan.sigma / plan.signal), (plan.timestep + 1) / 1000, atol=4e-3)


def test_assigning_fills_no_other_column():
    plan = trace(FAMILIES["variance preserving"], 5)
    assert plan.differences(assign(plan, (0.4,))) == ("stage",)
    assert (assign(plan, ()).stage == 0).all()


def test_rows_are_counted_in_every_stage():
    plan = trace(solvers.build("dpm++2m", FAMILIES["variance preserving"].config), 20)
    counts = rows_per_stage(plan, THREE)
    assert counts.sum() == len(plan)
    assert len(rows_per_stage(plan, (0.001, 0.999))) == 3


def test_rows_of_unknown_level_have_no_stage():
    plan = Plan(timestep=[1.0, 0.0], a=1.0, b=[[1.0], [1.0]])
    with pytest.raises(PlanError, match="row 0"):
        assign(plan, THREE)
    assert (assign(plan, ()).stage == 0).all()  # one stage needs no level


def test_equation_23_is_the_mean_over_each_interval():
    whole = interpolated(Stages(), THREE, (169, 108, 47))
    assert whole == pytest.approx((0.442 * 169 + 0.188 * 108 + 0.37 * 47,))
    assert interpolated(THREE, THREE, (169, 108, 47)) == pytest.approx((169, 108, 47))
    first, second = interpolated(Stages((0.5,)), THREE, (169, 108, 47))
    assert first == pytest.approx((0.442 * 169 + 0.058 * 108) / 0.5)
    assert second == pytest.approx((0.13 * 108 + 0.37 * 47) / 0.5)
    with pytest.raises(PlanError, match="3 stages"):
        interpolated(Stages(), THREE, (1, 2))

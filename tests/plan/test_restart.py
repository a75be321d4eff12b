"""Plans restarted in their middle against schedulers that begin there."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from headrace.benchmarks._solver_loop import SHAPE, _Float64Throughout, relative_difference, toy_network
from headrace.errors import PlanError, SolverError
from headrace.models import solvers
from headrace.plan import COLUMNS, Plan
from headrace.plan.column import SOLVER
from headrace.plan.path import distance, path
from headrace.plan.reference import run
from headrace.plan.trace import restarted, trace

STABLE_DIFFUSION = diffusers.PNDMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
)
BASES = {
    "variance preserving": STABLE_DIFFUSION,
    "flow matching": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "EDM": diffusers.EDMEulerScheduler(),
    "consistency": diffusers.CMStochasticIterativeScheduler(),
}
IN_PAIRS = ("heun", "heun-karras", "kdpm2", "kdpm2-a", "flow-heun")
STEPS = 8
ROW = 6  # the first evaluation of a step for those that evaluate in pairs too: row 0 is a step of its own
ANYWHERE = [name for name in solvers.names() if name != "pndm"]


def scheduler_of(name: str) -> Any:
    return solvers.build(name, BASES[solvers.resolve(name).family].config)


def begin_at(scheduler: Any, row: int) -> torch.Tensor:
    """The timesteps from `row` on, the scheduler begun there as image-to-image pipelines do it."""
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps[row:]
    if isinstance(scheduler, diffusers.LMSDiscreteScheduler):  # counts outputs that it was never given
        scheduler.timesteps, scheduler.sigmas = timesteps, scheduler.sigmas[row:]
        row = 0
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(row)
    return timesteps


def from_row(scheduler: Any, row: int, x: torch.Tensor) -> np.ndarray:
    generator = torch.Generator().manual_seed(3)
    timesteps = begin_at(scheduler, row)
    accepted = inspect.signature(scheduler.step).parameters
    options = {"generator": generator} if "generator" in accepted else {}
    with _Float64Throughout():
        for timestep in timesteps:
            scaled = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
            x = scheduler.step(toy_network(scaled, float(timestep)), timestep, x, **options).prev_sample
    return x.numpy()


def rows_from(plan: Plan, row: int) -> Plan:
    return replace(plan, **{name: getattr(plan, name)[row:] for name in COLUMNS})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_restarted_plan_goes_on_as_the_scheduler_that_begins_there(name: str) -> None:
    plan = trace(scheduler_of(name), STEPS)
    whole = restarted(plan, ROW)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).double()
    generator = torch.Generator().manual_seed(3)
    draw = lambda: torch.randn(SHAPE, generator=generator).double().numpy()  # noqa: E731
    ours = run(rows_from(whole, ROW), toy_network, x.numpy(), draw)
    assert relative_difference(ours, from_row(scheduler_of(name), ROW, x)) <= 1e-11
    assert whole.metadata | {"register": ""} == plan.metadata | {"register": ""}
    assert rows_from(plan, 0) == plan
    for name_, spec in COLUMNS.items():
        if spec.owner == SOLVER and name_ != "b":
            assert np.array_equal(getattr(whole, name_)[:ROW], getattr(plan, name_)[:ROW])
    depth = np.where(whole.b != 0, np.arange(whole.history), 0).max(axis=1)
    assert (np.arange(len(whole)) - depth >= ROW)[ROW:].all()  # no register of before


@pytest.mark.parametrize("name", ["dpm++2m", "heun", "lms", "sa", "flow-unipc"])
def test_restarted_at_the_first_row_is_the_plan_itself(name: str) -> None:
    plan = trace(scheduler_of(name), STEPS).with_columns(guidance=3.0)
    assert restarted(plan, 0) == plan


@pytest.mark.parametrize("name", IN_PAIRS)
def test_the_second_evaluation_of_a_step_is_no_beginning(name: str) -> None:
    with pytest.raises(SolverError, match="cannot begin anew at row 7 of 15"):
        restarted(trace(scheduler_of(name), STEPS), ROW + 1)


def test_pndm_begins_nowhere_but_at_its_start() -> None:
    plan = trace(STABLE_DIFFUSION, STEPS)
    for row in range(1, len(plan) - 1):
        with pytest.raises(SolverError, match="PNDMScheduler cannot begin anew at row"):
            restarted(plan, row)


@pytest.mark.parametrize("name", [n for n in ANYWHERE if n != "consistency"])
def test_every_rows_level_and_data_prediction_are_the_solvers_own(name: str) -> None:
    """With one data prediction throughout, latents come by every level that the scheduler's `add_noise` tells."""
    plan = trace(scheduler_of(name), STEPS)
    told = np.stack([plan.signal, plan.sigma], axis=1)
    assert (distance(path(plan)[:-1], told) <= 1e-5).all()
    if name not in ("kdpm2", "kdpm2-a"):  # whose second evaluations lie between two levels
        scheduler = scheduler_of(name)
        scheduler.set_timesteps(STEPS)
        mixed = scheduler.add_noise if hasattr(scheduler, "add_noise") else scheduler.scale_noise
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(ROW)
        at, data, noise = scheduler.timesteps[ROW : ROW + 1], torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0)
        expected = mixed(data, noise, at) if hasattr(scheduler, "add_noise") else mixed(data, at, noise)
        assert np.isclose(plan.signal[ROW] + 2 * plan.sigma[ROW], expected.item(), rtol=1e-5)


def test_what_a_plan_was_traced_with_is_traced_again() -> None:
    ancestral = trace(diffusers.DDIMScheduler(clip_sample=False), 6, step_options={"eta": 0.7})
    assert (restarted(ancestral, 3).noise[3:-1] != 0).all()
    shifted = diffusers.FlowMatchEulerDiscreteScheduler()
    shifted.set_shift(5.0)
    plan = trace(shifted, 6)
    assert np.array_equal(restarted(plan, 3).timestep, plan.timestep)
    custom = trace(diffusers.EulerDiscreteScheduler(), None, sigmas=[10.0, 4.0, 1.0, 0.0])
    assert np.allclose(restarted(custom, 1).a, custom.a)


def test_decisions_survive_a_restart_and_a_file(tmp_path) -> None:
    plan = trace(scheduler_of("dpm++3m"), STEPS).with_columns(guidance=[4.0] * 5 + [1.0] * 3)
    again = restarted(plan, 4)
    assert np.array_equal(again.guidance, plan.guidance)
    assert again.b[4:, 1:].any()
    assert again != plan
    again.save(tmp_path / "restarted.parquet")
    assert Plan.load(tmp_path / "restarted.parquet") == again
    assert restarted(Plan.load(tmp_path / "restarted.parquet"), 4) == again


def test_what_cannot_be_traced_again_is_refused() -> None:
    with pytest.raises(SolverError, match="does not say how it was traced"):
        restarted(Plan(timestep=[1.0, 0.0], a=[1.0, 1.0], b=[[1.0], [1.0]]), 1)  # type: ignore[arg-type]
    with pytest.raises(SolverError, match="does not say how it was traced"):
        restarted(trace(diffusers.SASolverScheduler(tau_func=lambda t: 0.0), 8), 4)
    with pytest.raises(PlanError, match="row 8 is not in a plan of 8 rows"):
        restarted(trace(scheduler_of("ddim"), STEPS), 8)

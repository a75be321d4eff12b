"""Short solver names and what they build."""

from __future__ import annotations

import diffusers
import pytest

from headrace.errors import SolverError
from headrace.models import solvers
from headrace.plan.trace import trace

BASES = {
    "variance preserving": diffusers.PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        prediction_type="v_prediction",
    ),
    "flow matching": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "EDM": diffusers.EDMEulerScheduler(),
    "consistency": diffusers.CMStochasticIterativeScheduler(),
}


@pytest.mark.parametrize("name", solvers.names())
def test_every_name_builds_and_traces_from_a_models_configuration(name: str) -> None:
    spec = solvers.resolve(name)
    base = BASES[spec.family]
    scheduler = solvers.build(name, base.config)
    assert type(scheduler).__name__ == spec.scheduler
    assert {key: scheduler.config[key] for key in spec.options} == dict(spec.options)
    assert trace(scheduler, 8).steps == 8
    assert trace(solvers.build(name), 8).steps == 8


@pytest.mark.parametrize("name", [n for n in solvers.names() if solvers.resolve(n).family == "variance preserving"])
def test_the_models_own_noise_schedule_is_kept(name: str) -> None:
    scheduler = solvers.build(name, BASES["variance preserving"].config)
    assert (scheduler.config.beta_start, scheduler.config.beta_schedule) == (0.00085, "scaled_linear")
    assert scheduler.config.prediction_type == "v_prediction"


@pytest.mark.parametrize("name", solvers.names())
def test_solvers_of_another_family_are_refused_with_the_reason(name: str) -> None:
    own = solvers.resolve(name).family
    for family, base in BASES.items():
        if family == own:
            continue
        for form in (base, base.config, {"_class_name": type(base).__name__, **base.config}):
            with pytest.raises(SolverError, match=f"is for {own} models"):
                solvers.build(name, form)


def test_flow_solvers_take_the_models_shift() -> None:
    for name in ("flow-dpm++2m", "flow-unipc"):
        assert solvers.build(name, BASES["flow matching"].config).config.flow_shift == 3.0
    assert solvers.build("flow-heun", BASES["flow matching"]).config.shift == 3.0


@pytest.mark.parametrize(
    ("written", "scheduler"),
    [
        ("DDIM", "DDIMScheduler"),
        (" Euler_Ancestral ", "EulerAncestralDiscreteScheduler"),
        ("DPM++ 2M", "DPMSolverMultistepScheduler"),
        ("eulerdiscretescheduler", "EulerDiscreteScheduler"),
        ("EulerDiscrete", "EulerDiscreteScheduler"),
        ("DPMSolverSinglestepScheduler", "DPMSolverSinglestepScheduler"),
    ],
)
def test_names_in_other_spellings(written: str, scheduler: str) -> None:
    assert type(solvers.build(written)).__name__ == scheduler


@pytest.mark.parametrize(("wrong", "near"), [("eulr", "euler"), ("dpm++2n", "dpm++2m"), ("unipcc", "unipc")])
def test_unknown_names_suggest_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(SolverError, match="Did you mean") as raised:
        solvers.build(wrong)
    assert near in raised.value.remedy.split("?")[0]
    with pytest.raises(SolverError, match="Known: ddim"):
        solvers.build("")


def test_options_that_the_class_refuses_are_a_solver_error() -> None:
    with pytest.raises(SolverError, match="EulerDiscreteScheduler cannot be built"):
        solvers.build("euler", {"beta_schedule": "crooked"})


def test_karras_replaces_another_spacing_of_sigmas() -> None:
    base = diffusers.EulerDiscreteScheduler(use_beta_sigmas=True).config
    config = solvers.build("euler-karras", base).config
    assert config.use_karras_sigmas
    assert not config.use_beta_sigmas
    assert solvers.build("euler", base).config.use_beta_sigmas


def test_the_base_configuration_is_left_alone() -> None:
    base = dict(BASES["variance preserving"].config)
    before = dict(base)
    solvers.build("dpm++2m-karras", base)
    assert base == before

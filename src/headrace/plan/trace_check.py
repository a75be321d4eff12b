"""What a scheduler is asked for, checked before it is run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from headrace.errors import NotLinearError, SolverError

MAX_ROWS = 2000
SCHEDULE_ARGUMENTS = ("timesteps", "sigmas")
_ORDINARY_STEP = {"model_output", "timestep", "sample"}


def check(scheduler: Any, steps: int | None, schedule: Mapping[str, Any]) -> None:
    """Raises `SolverError` or `NotLinearError` for what cannot be traced whatever its step does."""
    solver = type(scheduler).__name__
    if not all(hasattr(scheduler, name) for name in ("config", "set_timesteps", "step")):
        raise SolverError(
            f"{solver} has no set_timesteps and step like diffusers' schedulers", "Pass a scheduler object"
        )
    custom = any(schedule.get(name) is not None for name in SCHEDULE_ARGUMENTS)
    if (steps is None and not custom) or (
        steps is not None and (isinstance(steps, bool) or not isinstance(steps, int))
    ):
        raise SolverError(f"steps is {steps!r}, not a whole number", "Give the number of inference steps, 1 or more")
    if steps is not None and not 1 <= steps <= MAX_ROWS:
        raise SolverError(f"steps is {steps}", f"Give a number of inference steps from 1 to {MAX_ROWS}")
    known = [
        name
        for name in inspect.signature(scheduler.set_timesteps).parameters
        if name not in ("num_inference_steps", "device")
    ]
    for name in schedule:
        if name not in known:
            raise SolverError(
                f"{solver}.set_timesteps takes no {name!r}", f"It takes {', '.join(known) or 'nothing but steps'}"
            )
    _check_configuration(scheduler, solver)


def _check_configuration(scheduler: Any, solver: str) -> None:
    parameters = inspect.signature(scheduler.step).parameters
    needed = [name for name, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if set(needed) != _ORDINARY_STEP:
        raise SolverError(
            f"{solver}.step needs {', '.join(needed)}, where others need a model output, a timestep and a sample",
            "Choose another solver",
        )
    if "LongTensor" in str(parameters["sample"].annotation):
        raise NotLinearError(f"{solver} denoises tokens, not latents", "Choose another solver")
    if hasattr(scheduler, "noise_sampler"):
        raise NotLinearError(
            f"{solver} (noise_sampler) draws from a Brownian tree of its own, not from the request's random stream",
            "Choose dpm++2m-sde, which draws plain noise",
        )
    config = scheduler.config
    if config.get("solver_p") is not None:
        raise SolverError(f"{solver} with solver_p keeps the state of a second solver", "Set solver_p=None")
    if config.get("thresholding"):
        raise NotLinearError(
            f"{solver} with thresholding=True scales by a quantile of the data", "Set thresholding=False"
        )
    if str(config.get("variance_type") or "").startswith("learned"):
        raise NotLinearError(
            f"{solver} with variance_type={config['variance_type']!r} scales its noise by the network's output",
            "Set variance_type to a fixed one (None for the DPM solvers)",
        )


def check_step_options(scheduler: Any, options: Mapping[str, Any]) -> None:
    """Raises `SolverError` for an option that the scheduler's step does not take."""
    known = (
        set(inspect.signature(scheduler.step).parameters)
        - _ORDINARY_STEP
        - {"generator", "return_dict", "prev_timestep"}
    )
    for name in options:
        if name not in known:
            raise SolverError(
                f"{type(scheduler).__name__}.step takes no {name!r}",
                f"It takes {', '.join(sorted(known)) or 'no options'}",
            )

"""What a plan is traced from: a scheduler's configuration and what is asked of it, and both read back from a plan."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from headrace.errors import SolverError
from headrace.plan.plan import Plan
from headrace.plan.trace_check import MAX_ROWS, SCHEDULE_ARGUMENTS


@dataclass(frozen=True)
class TracedSolver:
    """A scheduler of which the configuration alone is read, and what it is traced with beside it."""

    scheduler: Any
    shift: float | None
    steps: int | None
    schedule: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The scheduler's class name."""
        return type(self.scheduler).__name__

    @property
    def cacheable(self) -> bool:
        """A function (SA's tau_func) has no value that a key or a plan could hold."""
        return not any(callable(value) for value in self.scheduler.config.values())

    @property
    def arguments(self) -> str:
        """What a plan records beside the configuration, as canonical JSON; {} where it could not be read back."""
        if not self.cacheable:
            return "{}"
        return _canonical({"set_timesteps": dict(self.schedule), "step": dict(self.options), "shift": self.shift})

    def fresh(self) -> Any:
        """A new scheduler with its timesteps set."""
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        if self.shift is not None and self.shift != scheduler.shift:
            scheduler.set_shift(self.shift)
        _set_timesteps(scheduler, self.steps, self.schedule)
        return scheduler


def solver_of(plan: Plan) -> TracedSolver:
    """What a traced plan was traced from. Raises `SolverError` for a plan that does not say it."""
    import diffusers

    arguments = json.loads(plan.arguments)
    scheduler_class = getattr(diffusers, plan.solver, None) if arguments else None
    if scheduler_class is None:
        raise SolverError(
            f"the plan of {plan.solver or 'no solver'} does not say how it was traced, so it cannot be traced anew",
            "Use a plan that headrace.plan.trace made of a scheduler of diffusers, without functions as options",
        )
    scheduler = scheduler_class.from_config(json.loads(plan.config))
    return TracedSolver(scheduler, arguments["shift"], plan.steps, arguments["set_timesteps"], arguments["step"])


def canonical_config(scheduler: Any) -> str:
    """The scheduler's configuration as JSON with sorted keys, private entries left out."""
    return _canonical({name: value for name, value in dict(scheduler.config).items() if not name.startswith("_")})


def _set_timesteps(scheduler: Any, steps: int | None, schedule: Mapping[str, Any]) -> None:
    parameters = inspect.signature(scheduler.set_timesteps).parameters
    arguments = dict(schedule)
    if not any(arguments.get(name) is not None for name in SCHEDULE_ARGUMENTS):
        arguments["num_inference_steps"] = steps
    if "device" in parameters:
        arguments["device"] = "cpu"
    scheduler.set_timesteps(**arguments)
    if len(scheduler.timesteps) > MAX_ROWS:
        raise ValueError(f"{len(scheduler.timesteps)} rows are more than {MAX_ROWS}")
    if len(scheduler.timesteps) == 0:
        raise ValueError("no timesteps come out")


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=_as_json)


def _as_json(value: Any) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, torch.dtype | torch.device | type) or callable(value):
        return str(getattr(value, "__qualname__", value))
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise SolverError(f"{type(value).__name__} is not an option that a plan can record", "Use numbers, text and lists")

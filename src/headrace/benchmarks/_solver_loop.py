"""A scheduler's own sampling loop and the plan's, side by side on a small nonlinear network."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from headrace.benchmarks._solver_cases import SolverCase
from headrace.plan import Plan
from headrace.plan.reference import run

SHAPE = (1, 3, 16, 16)
Sample = NDArray[np.floating]


def toy_network(x: Any, timestep: float) -> Any:
    """A smooth nonlinear function of the whole sample and the timestep, for torch tensors and numpy arrays alike."""
    library = torch if isinstance(x, torch.Tensor) else np
    neighbours = library.roll(x, 1, -1)
    return library.tanh(0.7 * x - 0.4 * neighbours + 0.3 * float(np.cos(0.01 * timestep)))


class _Float64Throughout(TorchFunctionMode):
    """Keeps float64 samples where a scheduler rounds them to float32, and draws the noise that float32 would."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is torch.randn:
            return func(*args, **{**given, "dtype": torch.float32}).to(torch.float64)
        result = func(*args, **given)
        source = args[0] if args else None
        rounded = isinstance(result, torch.Tensor) and isinstance(source, torch.Tensor) and result.shape == SHAPE
        if (
            func in (torch.Tensor.to, torch.Tensor.float)
            and rounded
            and source is not None
            and source.dtype == torch.float64
        ):
            return source
        return result


def scheduler_sample(case: SolverCase, steps: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Sample:
    """The final sample of the scheduler itself, as a diffusers pipeline drives it.

    In float64 nothing is rounded to float32 on the way, though diffusers does so, and the noise is that of float32.
    """
    with _Float64Throughout() if dtype == torch.float64 else nullcontext():
        return _sample(case, steps, dtype, seed)


def _sample(case: SolverCase, steps: int, dtype: torch.dtype, seed: int) -> Sample:
    scheduler = case.build()
    scheduler.set_timesteps(steps, **case.schedule)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SHAPE, generator=generator, dtype=dtype) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    accepted = inspect.signature(scheduler.step).parameters
    options = dict(case.step_options)
    if "generator" in accepted:
        options["generator"] = generator
    timesteps = scheduler.timesteps
    if case.scheduler in ("SCMScheduler", "DDPMWuerstchenScheduler"):
        timesteps = timesteps[:-1]
    if len(timesteps) > 1 and timesteps[0] == timesteps[1] and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # diffusers would start at the second of two equal timesteps and run past the end
    for row, timestep in enumerate(timesteps):
        scaled = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        if "prev_timestep" in accepted:
            options["prev_timestep"] = timesteps[row + 1] if row + 1 < len(timesteps) else None
        out = toy_network(scaled, float(timestep))
        given = timestep[None] if case.scheduler == "DDPMWuerstchenScheduler" else timestep
        x = scheduler.step(out, given, x, **options).prev_sample
    return np.asarray(x.numpy())


def plan_sample(plan: Plan, dtype: torch.dtype = torch.float32, seed: int = 0) -> Sample:
    """The final sample of a plan by the reference executor in `dtype`, with the scheduler's random stream."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Sample:
        return np.asarray(torch.randn(SHAPE, generator=generator).to(dtype).numpy())

    first = draw()
    return run(plan, toy_network, first * first.dtype.type(plan.init_noise_sigma), draw)


def relative_difference(value: Sample, expected: Sample) -> float:
    """Largest absolute difference over the largest absolute value expected."""
    return float(np.abs(value - expected).max() / np.abs(expected).max())

"""Runs a diffusers scheduler on coordinate vectors and writes down what it did.

Latents are linear coordinates here: the first sample is the unit vector e0, the i-th network output is e(1+i), and
every noise draw and every clipped value becomes a unit vector of its own. Beside the coordinates, each vector carries a
few *probes*: ordinary random numbers that go through the same arithmetic, real clipping included. They show what
coordinates cannot: that the step is the same linear map for any data.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from headrace.errors import NotLinearError, SolverError

Vector = NDArray[np.float64]

PROBES = 24
_FREE_AXES_PER_ROW = 3  # noise draws and clipped values; one of each is usual
_DATA_OUTPUTS = ("pred_original_sample", "denoised")
# Their list of timesteps ends with where the last step leads, which is no row; and one wants timesteps as a batch.
_TARGET_IS_LAST = ("SCMScheduler", "DDPMWuerstchenScheduler")
_BATCHED_TIMESTEP = ("DDPMWuerstchenScheduler",)


@dataclass
class Clamp:
    """One clipping of a sample-shaped value: what went in, what came out, and the bounds."""

    given: Vector
    result: Vector
    low: float
    high: float


@dataclass
class Recording:
    """What a scheduler did, a vector of length N (coordinates, then probes) for each quantity.

    `samples` [R+1, N]: x before each row and after the last; `outputs` [R, N]; `draws` and `clamps`: a list a row;
    `memory`: values that the scheduler itself kept after each row, by attribute name; `predictions` [R, N]: the data
    prediction that the step returned, or None; `output_axes` [R]: the coordinate that belongs to each row's output.
    """

    timesteps: Vector
    init_noise_sigma: float
    input_scale: Vector
    samples: NDArray[np.float64]
    outputs: NDArray[np.float64]
    draws: list[list[Vector]]
    clamps: list[list[Clamp]]
    memory: dict[str, NDArray[np.float64]]
    predictions: NDArray[np.float64] | None
    output_axes: NDArray[np.int64]


@dataclass
class _Row:
    draws: list[Vector] = field(default_factory=list)
    clamps: list[Clamp] = field(default_factory=list)


class _Coordinates(TorchFunctionMode):
    """Intercepts noise, clipping and casts of sample-shaped tensors; everything else runs as it is."""

    def __init__(self, rows: int, solver: str) -> None:
        super().__init__()
        self.axes = 1 + rows + _FREE_AXES_PER_ROW * rows
        self.shape = (1, 1, 1, self.axes + PROBES)
        self.solver = solver
        self.row = _Row()
        self._next_free = 1 + rows
        self._random = np.random.default_rng(20)
        self._handlers: dict[Any, Callable[..., Any]] = {
            torch.randn: self._draw,
            torch.randn_like: self._draw,
            torch.clamp: self._clamp,
            torch.Tensor.clamp: self._clamp,
            torch.clip: self._clamp,
            torch.Tensor.clip: self._clamp,
            torch.quantile: self._quantile,
            torch.Tensor.quantile: self._quantile,
            torch.Tensor.to: self._cast,
            torch.Tensor.float: self._cast,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = self._handlers.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(func, *args, **(kwargs or {}))

    def unit(self, axis: int, probe_scale: float = 1.0) -> torch.Tensor:
        """A unit vector along `axis` with fresh probes of standard deviation `probe_scale`."""
        vector = torch.zeros(self.shape, dtype=torch.float64)
        vector[..., axis] = 1.0
        vector[..., self.axes :] = torch.from_numpy(probe_scale * self._random.standard_normal(PROBES))
        return vector

    def is_sample(self, value: object) -> bool:
        """Whether a value has the size of the latents, so depends (or may depend) on data."""
        return isinstance(value, torch.Tensor) and value.numel() == self.shape[-1]

    def _free_axis(self) -> int:
        if self._next_free == self.axes:
            raise NotLinearError(
                f"{self.solver} draws noise or clips more than {_FREE_AXES_PER_ROW} times a row",
                "Choose another solver",
            )
        self._next_free += 1
        return self._next_free - 1

    def _draw(self, func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        noise = self.unit(self._free_axis())
        self.row.draws.append(_flat(noise))
        return noise

    def _clamp(self, func: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        result = func(value, *args, **kwargs)
        if not self.is_sample(value):
            return result
        bounds = dict(zip(("min", "max"), args, strict=False)) | kwargs
        if any(self.is_sample(bound) for bound in bounds.values()):
            raise NotLinearError(f"{self.solver} clips to bounds that depend on the data", "Choose another solver")
        low, high = bounds.get("min"), bounds.get("max")
        clipped = self.unit(self._free_axis())
        clipped[..., self.axes :] = result[..., self.axes :]
        no_low, no_high = float("-inf"), float("inf")
        self.row.clamps.append(
            Clamp(
                _flat(value),
                _flat(clipped),
                no_low if low is None else float(low),
                no_high if high is None else float(high),
            )
        )
        return clipped

    def _quantile(self, func: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotLinearError(
            f"{self.solver} divides by a quantile of the data prediction (dynamic thresholding)",
            "Set thresholding=False",
        )

    def _cast(self, func: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        # The arithmetic of a step stays in float64, where diffusers rounds samples to float32 between operations.
        if self.is_sample(value) and value.dtype == torch.float64:
            return value
        return func(value, *args, **kwargs)


def rows_of(scheduler: Any) -> torch.Tensor:
    """The timesteps at which `scheduler`, whose timesteps are set, evaluates the network."""
    timesteps: torch.Tensor = scheduler.timesteps
    return timesteps[:-1] if type(scheduler).__name__ in _TARGET_IS_LAST else timesteps


def record(scheduler: Any, step_options: Mapping[str, Any], begin: int = 0) -> Recording:
    """Run `scheduler`, whose timesteps are set, from row `begin` to its end; the recording starts there.

    It is changed, so pass a copy. Raises `SolverError`.
    """
    solver = type(scheduler).__name__
    timesteps = rows_of(scheduler)[begin:]
    rows = len(timesteps)
    _begin(scheduler, begin)
    space = _Coordinates(rows, solver)
    initial_sigma = float(getattr(scheduler, "init_noise_sigma", 1.0))  # flow matching starts from unit noise
    sample = space.unit(0, initial_sigma)
    samples, outputs, scales, predictions, row_records = [_flat(sample)], [], [], [], []
    memories: list[dict[str, Vector]] = []
    takes_previous = "prev_timestep" in inspect.signature(scheduler.step).parameters
    with torch.no_grad(), space:
        for row in range(rows):
            space.row = _Row()
            timestep = timesteps[row : row + 1] if solver in _BATCHED_TIMESTEP else timesteps[row]
            scales.append(_input_scale(scheduler, sample, timestep))
            output = space.unit(1 + row)
            options = dict(step_options)
            if takes_previous:
                options["prev_timestep"] = timesteps[row + 1] if row + 1 < rows else None
            result = scheduler.step(output, timestep, sample, **options)
            sample = result.prev_sample
            if not space.is_sample(sample):
                raise SolverError(
                    f"{solver}.step returns a sample of another shape than it was given", "Choose another solver"
                )
            samples.append(_finite(_flat(sample), solver, row))
            outputs.append(_flat(output))
            predictions.append(_prediction(result, space))
            memories.append(_memory(scheduler, space))
            row_records.append(space.row)
    return Recording(
        timesteps=np.array([float(t) for t in timesteps]),
        init_noise_sigma=initial_sigma,
        input_scale=np.array(scales),
        samples=np.stack(samples),
        outputs=np.stack(outputs),
        draws=[row.draws for row in row_records],
        clamps=[row.clamps for row in row_records],
        memory=_kept_in_every_row(memories),
        predictions=None
        if any(p is None for p in predictions)
        else np.stack([p for p in predictions if p is not None]),
        output_axes=1 + np.arange(rows),
    )


def _flat(value: torch.Tensor) -> Vector:
    flat: Vector = value.detach().reshape(-1).to("cpu").numpy().astype(np.float64, copy=True)
    return flat


def _finite(sample: Vector, solver: str, row: int) -> Vector:
    if not np.isfinite(sample).all():
        raise SolverError(
            f"{solver} divides by zero in row {row} (as epsilon prediction does with zero terminal SNR)",
            "Change the prediction type, the timestep spacing or the number of steps",
        )
    return sample


def _begin(scheduler: Any, row: int) -> None:
    """Have the next step be that of `row`. Solvers without a begin index know their row by its timestep."""
    if hasattr(scheduler, "get_lms_coefficient"):
        # LMS takes as many outputs as rows were numbered, kept or not, so its rows are numbered from the beginning.
        scheduler.timesteps, scheduler.sigmas = scheduler.timesteps[row:], scheduler.sigmas[row:]
        row = 0
        _integrate_in_numpy(scheduler)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(row)  # never found by timestep: Karras spacing repeats the first integer timestep


def _integrate_in_numpy(scheduler: Any) -> None:
    """Let LMS integrate its weights over numpy scalars: the same float32 numbers in a tenth of the time."""
    integrate, tensor = scheduler.get_lms_coefficient, scheduler.sigmas
    array = tensor.numpy()

    def coefficient(order: int, row: int, current_order: int) -> float:
        scheduler.sigmas = array
        weight: float = integrate(order, row, current_order)
        scheduler.sigmas = tensor
        return weight

    scheduler.get_lms_coefficient = coefficient


def _input_scale(scheduler: Any, sample: torch.Tensor, timestep: Any) -> float:
    if not hasattr(scheduler, "scale_model_input"):
        return 1.0
    scaled, plain = _flat(scheduler.scale_model_input(sample, timestep)), _flat(sample)
    scale = float(scaled @ plain / (plain @ plain))
    if not np.allclose(scaled, scale * plain, rtol=1e-9, atol=1e-9 * np.abs(plain).max()):
        raise NotLinearError(
            f"{type(scheduler).__name__}.scale_model_input does more than multiply", "Choose another solver"
        )
    return scale


def _prediction(result: Any, space: _Coordinates) -> Vector | None:
    for name in _DATA_OUTPUTS:
        value = getattr(result, name, None)
        if value is not None and space.is_sample(value):
            return _flat(value)
    return None


def _memory(scheduler: Any, space: _Coordinates) -> dict[str, Vector]:
    """Sample-shaped values among the scheduler's attributes; of a list, the last entry, which is the newest."""
    kept = {}
    for name, value in vars(scheduler).items():
        newest = value[-1] if isinstance(value, list) and value else value
        if newest is not None and space.is_sample(newest):
            kept[name] = _flat(newest)
    return kept


def _kept_in_every_row(memories: list[dict[str, Vector]]) -> dict[str, NDArray[np.float64]]:
    names = set.intersection(*(set(memory) for memory in memories)) if memories else set()
    return {name: np.stack([memory[name] for memory in memories]) for name in sorted(names)}

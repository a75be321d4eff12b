"""How similar the optimal denoiser is at two noise levels: equations (6) to (8), measured on samples of the data.

What is compared is "noise", the noise prediction, as the equations have it, or "data", the data prediction. What the
denoiser at time 1 is: "own", at the sample's own noisy image of time 1, as equation (8) has it; or "mean", the limit of
pure noise, which predicts the data's mean, at the noisy image of time t. "noise" with "mean" is what the authors'
public program compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headrace.errors import CalibrationError
from headrace.techniques.multistage.kernel import Kernel
from headrace.techniques.multistage.optimal_denoiser import OptimalDenoiser

Floats = NDArray[np.float64]
Prediction = Literal["noise", "data"]
End = Literal["mean", "own"]
Progress = Callable[[int], None]  # told how many evaluations of the denoiser were made since last

_BATCH = 500  # noisy images at once: enough that the reading of a block of images hardly counts
_TOGETHER = 50  # samples of a grid


@dataclass(frozen=True, eq=False)
class EndSimilarity:
    """The similarity of K samples, each at one time, to the denoisers at both ends of the time line.

    Attributes:
        times: [K], increasing: one in each of K equal parts of the time line.
        to_image: prediction to [K], 0 to 1: with the denoiser at time 0.
        to_noise: (prediction, end) to [K]: with that at time 1.
    """

    times: Floats
    to_image: dict[Prediction, Floats]
    to_noise: dict[tuple[Prediction, End], Floats]


def share_within(first: Tensor, second: Tensor, eta: float) -> Floats:
    """The paper's D, [B]: the share of numbers of predictions [B, D] that differ by at most `eta`."""
    return ((first - second).abs() <= eta).double().mean(1).numpy()


def check_eta(eta: float) -> None:
    """Raises `CalibrationError` for a threshold that is not between 0 and 1."""
    if not 0 < eta < 1:
        raise CalibrationError(f"eta {eta:g} is not between 0 and 1", "The paper has 2/256 = 0.0078125")


def measure_ends(
    denoiser: OptimalDenoiser,
    kernel: Kernel,
    samples: int,
    eta: float,
    own: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> EndSimilarity:
    """Algorithm 1, lines 3 to 9, for every definition at once; those with end "own" only where `own` asks for them.

    At time 0 the sample itself has all the weight, so epsilon*_0 is its noise. Raises `CalibrationError` for an eta
    outside (0, 1) or fewer than 2 samples.
    """
    check_eta(eta)
    if samples < 2:
        raise CalibrationError(f"{samples} samples tell no similarity", "Use at least 2, better some thousands")
    generator = torch.Generator().manual_seed(seed)
    within = torch.rand(samples, generator=generator, dtype=torch.float64).numpy()
    times = kernel.first + (1 - kernel.first) * (np.arange(samples) + within) / samples
    last = float(kernel.sigma(1.0)) if own else None
    found: dict[tuple[Prediction, End | None], list[Floats]] = {}
    for clean, noise, start in _samples(denoiser, samples, _BATCH, generator):
        sigma = torch.from_numpy(kernel.sigma(times[start : start + len(clean)]))
        for key, share in _compare_ends(denoiser, clean, noise, sigma, last, eta).items():
            found.setdefault(key, []).append(share)
        if progress is not None:
            progress(len(clean) * (2 if own else 1))
    joined = {key: np.concatenate(parts) for key, parts in found.items()}
    to_image = {prediction: values for (prediction, end), values in joined.items() if end is None}
    to_noise = {(prediction, end): values for (prediction, end), values in joined.items() if end is not None}
    return EndSimilarity(times, to_image, to_noise)


def measure_grid(
    denoiser: OptimalDenoiser,
    kernel: Kernel,
    times: Floats,
    samples: int,
    eta: float,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Prediction, Floats]:
    """S of equation (6) between all G times of a grid, [G, G], for both predictions, as means of so many samples.

    Each sample is made noisy at every time with the same noise. Raises `CalibrationError` as `measure_ends` does.
    """
    check_eta(eta)
    if samples < 1:
        raise CalibrationError(f"{samples} samples tell no similarity", "Use at least 1, better a hundred")
    generator = torch.Generator().manual_seed(seed)
    sigma = torch.from_numpy(kernel.sigma(times))
    total: dict[Prediction, Floats] = {name: np.zeros((len(times), len(times))) for name in ("noise", "data")}
    for clean, noise, _ in _samples(denoiser, samples, _TOGETHER, generator):
        levels = sigma.repeat_interleave(len(clean))
        noisy = (clean + sigma[:, None, None].float() * noise).flatten(0, 1)
        parts = [
            denoiser.data_prediction(some, level)
            for some, level in zip(noisy.split(_BATCH), levels.split(_BATCH), strict=True)
        ]
        data = torch.cat(parts).view(len(times), *clean.shape)
        predictions: dict[Prediction, Tensor] = {"data": data, "noise": (clean - data) / sigma[:, None, None].float()}
        for name, values in predictions.items():
            total[name] += len(clean) * _pairs(values, eta)
        if progress is not None:
            progress(len(noisy))
    return {name: values / samples for name, values in total.items()}


def _samples(
    denoiser: OptimalDenoiser, count: int, together: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Clean images and noise, [n, D] each, and the number of the first of them."""
    for start in range(0, count, together):
        size = min(together, count - start)
        rows = torch.randint(len(denoiser), (size,), generator=generator)
        clean = denoiser.clean(rows)
        yield clean, torch.randn(clean.shape, generator=generator), start


def _compare_ends(
    denoiser: OptimalDenoiser, clean: Tensor, noise: Tensor, sigma: Tensor, last: float | None, eta: float
) -> dict[tuple[Prediction, End | None], Floats]:
    """[B] of each definition; end None is time 0. `last` is sigma at time 1 where end "own" is wanted.

    Noise predictions are written as their difference from the noise, (x_0 - data prediction) / sigma: it is small, and
    lost in float32 beside the noise itself.
    """
    level = sigma[:, None].float()
    data = denoiser.data_prediction(clean + level * noise, sigma)
    error = (clean - data) / level
    nothing = torch.zeros(())
    found: dict[tuple[Prediction, End | None], Floats] = {
        ("data", None): share_within(data, clean, eta),
        ("noise", None): share_within(error, nothing, eta),
        ("data", "mean"): share_within(data, denoiser.mean, eta),
        ("noise", "mean"): share_within((data - denoiser.mean) / level, nothing, eta),
    }
    if last is not None:
        final = denoiser.data_prediction(clean + last * noise, torch.full_like(sigma, last))
        found["data", "own"] = share_within(data, final, eta)
        found["noise", "own"] = share_within(error, (clean - final) / last, eta)
    return found


def _pairs(values: Tensor, eta: float) -> Floats:
    """[G, G] of predictions [G, B, D]: the share within `eta`, mean over B; symmetric, with ones on the diagonal."""
    similarity = np.eye(len(values))
    for first in range(len(values)):
        for second in range(first):
            share = share_within(values[first], values[second], eta).mean()
            similarity[first, second] = similarity[second, first] = share
    return similarity

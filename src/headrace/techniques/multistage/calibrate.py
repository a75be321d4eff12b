"""Finding the stages of a data set or a network: by optimal denoiser, time, SNR or gradients (Table 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray

from headrace.errors import CalibrationError
from headrace.models.pipelines.base import Pipeline
from headrace.techniques.multistage.clustering import cut, cut_around_centres, dissimilarity_costs, find_ends
from headrace.techniques.multistage.gradient import gradient_affinity
from headrace.techniques.multistage.kernel import Kernel, kernel_of
from headrace.techniques.multistage.optimal_denoiser import OptimalDenoiser
from headrace.techniques.multistage.schedule import Stages, time_of
from headrace.techniques.multistage.similarity import (
    End,
    EndSimilarity,
    Prediction,
    check_eta,
    measure_ends,
    measure_grid,
)

Floats = NDArray[np.float64]
Progress = Callable[[int], None]

# How finely Table 4's other methods cut: the authors' programs have 1000 times for SNR and 100 elsewhere.
_TIMES, _SNR_TIMES = 100, 1000
GRADIENTS = 100


@dataclass(frozen=True)
class Question:
    """What is asked of the optimal denoiser. Raises `CalibrationError` for values out of range.

    Attributes:
        stages: how many; three are found by Algorithm 1, others by Algorithm 2.
        kernel: whose time samples are spread over, "vp" or "edm".
        samples: noisy images of Algorithm 1.
        grid_samples: images of Algorithm 2 and of the table of similarities, each at every time of the grid.
        eta: predictions that differ by at most this are equal, in units of the images' range [0, 1].
        alpha: mean similarity that the first and the last of three stages have.
        prediction: what is compared (see `similarity`).
        end: what the denoiser at time 1 is (see `similarity`).
        step: between times of the grid. Algorithm 2's cuts lie in the middle between two of them.
    """

    stages: int = 3
    kernel: str = "vp"
    samples: int = 5000
    grid_samples: int = 100
    eta: float = 2 / 256
    alpha: float = 0.9
    prediction: Prediction = "noise"
    end: End = "mean"
    step: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_stages(self.stages)
        check_eta(self.eta)
        if not 0 < self.alpha < 1:
            raise CalibrationError(f"alpha {self.alpha:g} is not between 0 and 1", "The paper has 0.9")
        for name, least in (("samples", 2), ("grid_samples", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise CalibrationError(f"{name} = {getattr(self, name)} is too few", f"Use at least {least}")
        for name, known in (("prediction", ("noise", "data")), ("end", ("mean", "own"))):
            if getattr(self, name) not in known:
                raise CalibrationError(f"there is no {name} {getattr(self, name)!r}", f"Use {' or '.join(known)}")
        parts = len(self.times) - 1
        if self.stages > parts:
            raise CalibrationError(f"{parts} parts of time make no {self.stages} stages", "Use fewer or a finer step")

    @property
    def measured(self) -> Kernel:
        """The kernel itself."""
        return kernel_of(self.kernel)

    @property
    def times(self) -> Floats:
        """[G] of the grid."""
        return self.measured.grid(self.step)

    @property
    def evaluations(self) -> int:
        """Noisy images that the denoiser is evaluated at."""
        ends = self.samples * (2 if self.end == "own" else 1) if self.stages == 3 else 0
        return ends + self.grid_samples * len(self.times)


@dataclass(frozen=True, eq=False)
class Answer:
    """Stages, and what they were found from.

    Attributes:
        stages: boundaries in time of the variance-preserving kernel.
        times: [G] in the kernel's own time; none where no similarity was measured.
        similarity: [G, G].
        ends: of Algorithm 1; None elsewhere.
    """

    stages: Stages
    times: Floats
    similarity: Floats
    ends: EndSimilarity | None = None


def check_stages(stages: int) -> None:
    """Raises `CalibrationError` for less than two."""
    if stages < 2:
        raise CalibrationError(f"{stages} stages need no boundary", "Use at least 2")


def stages_by_denoiser(denoiser: OptimalDenoiser, question: Question, progress: Progress | None = None) -> Answer:
    """Algorithm 1 for three stages, Algorithm 2 for others. Raises `CalibrationError` as these do.

    In Algorithm 2 each time of the grid stands for the step behind it, so that all parts of [0, 1] count alike: time 1
    stands for none.
    """
    kernel, times = question.measured, question.times
    ends = None
    if question.stages == 3:
        own = question.end == "own"
        ends = measure_ends(denoiser, kernel, question.samples, question.eta, own, question.seed, progress)
        cuts = list(end_cuts(ends, question))
    grid = measure_grid(denoiser, kernel, times, question.grid_samples, question.eta, question.seed, progress)
    similarity = grid[question.prediction]
    if ends is None:
        firsts = np.array(cut(dissimilarity_costs(similarity[:-1, :-1]), question.stages))
        cuts = ((times[firsts - 1] + times[firsts]) / 2).tolist()
    return Answer(_stages(kernel, cuts), times, similarity, ends)


def end_cuts(ends: EndSimilarity, question: Question) -> tuple[float, float]:
    """t_1 and t_2 in the kernel's time, by the question's definition. Raises `CalibrationError` as `find_ends` does."""
    to_image, to_noise = ends.to_image[question.prediction], ends.to_noise[question.prediction, question.end]
    return find_ends(ends.times, to_image, to_noise, question.alpha)


def stages_by_time(stages: int, kernel: Kernel) -> Answer:
    """Stages of about equal length in the kernel's time. Raises `CalibrationError` for less than two, or too many."""
    check_stages(stages)
    times = np.arange(_TIMES) / _TIMES
    return _around_centres(kernel, times, times, stages)


def stages_by_snr(stages: int, kernel: Kernel) -> Answer:
    """Stages whose log-SNR is near that of their middle time. Raises as `stages_by_time` does."""
    check_stages(stages)
    times = (np.arange(_SNR_TIMES) + 1) / _SNR_TIMES
    return _around_centres(kernel, times, -2 * np.log(kernel.sigma(times)), stages)


def stages_by_gradient(
    pipeline: Pipeline,
    images: torch.Tensor,
    stages: int,
    count: int = GRADIENTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Answer:
    """Stages whose gradients point where that of their middle timestep does, of `count` timesteps.

    `images` [B, C, h, w] in [-1, 1]. The whole network's gradients are held, `count` times. Raises `CalibrationError`
    for a model that is not an unconditional `UNet2DModel` that predicts noise, or too few timesteps.
    """
    check_stages(stages)
    alphas = _noise_levels(pipeline)
    if not stages <= count <= len(alphas):
        raise CalibrationError(f"{count} timesteps of {len(alphas)} make no {stages} stages", "Use about 100")
    timesteps = np.linspace(0, len(alphas), count + 1).round().astype(int)[1:] - 1
    affinity = gradient_affinity(pipeline.components.unet, alphas, images, timesteps.tolist(), seed, progress)
    times = time_of(((1 - alphas) / alphas).double().sqrt().numpy()[timesteps])
    firsts = list(cut_around_centres(1 - affinity, stages))
    return Answer(Stages(times[firsts]), times, affinity)


def _around_centres(kernel: Kernel, times: Floats, levels: Floats, stages: int) -> Answer:
    cuts = times[list(cut_around_centres(np.abs(levels[:, None] - levels), stages))]
    return Answer(_stages(kernel, cuts.tolist()), np.zeros(0), np.zeros((0, 0)))


def _stages(kernel: Kernel, cuts: list[float]) -> Stages:
    """Of times of any kernel: those of equal SNR (the paper's footnote 4)."""
    return Stages(cuts) if kernel.name == "vp" else Stages.from_sigmas(kernel.sigma(cuts))


def _noise_levels(pipeline: Pipeline) -> torch.Tensor:
    network, solver = pipeline.network, pipeline.components.scheduler
    alphas = getattr(solver, "alphas_cumprod", None)
    predicted = solver.config.get("prediction_type", "epsilon")
    if not isinstance(network, UNet2DModel) or network.config.num_class_embeds is not None or alphas is None:
        raise CalibrationError(
            f"{pipeline.name} is no unconditional UNet2DModel of a variance-preserving process",
            "Use such a model, for example cifar10-ddpm-small",
        )
    if predicted != "epsilon":
        raise CalibrationError(f"{pipeline.name} predicts {predicted}, not noise", "Use a model that predicts noise")
    levels: torch.Tensor = alphas
    return levels

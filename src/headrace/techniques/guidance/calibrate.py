"""How much of a picture is left when rows go unguided: similarity against when it begins and how often it happens.

Measured for SynerDiff's adaptive skip-CFG (section III-B, Fig. 9). A scheduler under load leaves rows unguided one
behind the other, beginning with the first that may be; so that is what is measured here. It is also the worst case:
early rows depend most on guidance, and of all ways to skip as many rows from there on, this one has the earliest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.errors import CalibrationError, NumericalError
from headrace.models.denoiser import Rows
from headrace.models.lockstep import Lockstep, Start
from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.guidance.schedule import skip

Floats = NDArray[np.float64]
Features = Callable[[NDArray[np.uint8]], Floats]  # pixels [N, H, W, channels] to features [N, D]

_COUNTS = 7  # numbers of skipped rows


@dataclass(frozen=True)
class Grid:
    """Which rows go unguided: `counts` rows from each of `firsts` on, in plans of `rows` rows.

    Where fewer rows are left than a count, all of them go.
    """

    rows: int
    firsts: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, rows: int, starts: int) -> Grid:
        """`starts` first rows at even distances, the first and the last row among them; counts grow geometrically.

        Raises `CalibrationError` for fewer than 2 starts or rows.
        """
        if rows < 2 or starts < 2:
            raise CalibrationError(
                f"{starts} first rows in a plan of {rows} give no curve", "Use at least 2 starts and 2 steps"
            )
        firsts = np.unique(np.linspace(0, rows - 1, starts).round().astype(int))
        counts = np.unique(np.geomspace(1, rows, _COUNTS).round().astype(int))
        return cls(rows, tuple(firsts.tolist()), tuple(counts.tolist()))

    @property
    def starts(self) -> tuple[float, ...]:
        """Progress (row / rows) of each first row."""
        return tuple(first / self.rows for first in self.firsts)

    @property
    def shares(self) -> tuple[float, ...]:
        """Each count as a share of all rows."""
        return tuple(count / self.rows for count in self.counts)

    def skipped(self, first: int, count: int) -> NDArray[np.bool_]:
        """[rows] flags: these rows go unguided."""
        numbers = np.arange(self.rows)
        return (numbers >= first) & (numbers < first + count)

    @property
    def network_rows(self) -> int:
        """Network rows of one picture in all its variants, each evaluated once."""
        after = [
            2 * (self.rows - first - count)
            for first in self.firsts
            for count in self.counts
            if count < self.rows - first
        ]
        return 2 * self.rows + sum(self.rows - first for first in self.firsts) + sum(after)


@dataclass(frozen=True, eq=False)
class Similarity:
    """How similar pictures stay to those that are guided in every row.

    Attributes:
        grid: what was skipped; S `firsts` and K `counts`.
        mean: [S, K] cosine of the pictures' features, 0 to 1 (negative ones are 0), averaged over pictures.
        deviation: [S, K] standard deviation over pictures; 0 for a single one.
        pictures: how many were measured.
    """

    grid: Grid
    mean: Floats
    deviation: Floats
    pictures: int


def check_guided(pipeline: Pipeline, plan: Plan) -> None:
    """Raises `CalibrationError` where there is no guidance to skip, or not in every row, or blocks are cached."""
    if not pipeline.guided:
        raise CalibrationError(
            f"{pipeline.name} has no unconditional branch, so there is no guidance to skip", "Use a guided model"
        )
    if (plan.guidance == 1).all():
        raise CalibrationError("a guidance scale of 1 is none, so there is nothing to skip", "Use a larger scale")
    if (plan.guidance == 1).any():
        raise CalibrationError("guidance is off in some rows of the plan", "Calibrate with one guidance scale")
    if pipeline.row_cache is not None:
        raise CalibrationError(f"{pipeline.name} caches blocks already", "Calibrate the model as it was loaded")


def measure_similarity(
    pipeline: Pipeline,
    plan: Plan,
    requests: Sequence[Request],
    features: Features,
    grid: Grid,
    centred: bool = False,
    batch: int = 8,
    progress: Callable[[int], None] | None = None,
) -> Similarity:
    """Makes every request's picture in all variants of `grid`, `batch` requests at a time, and compares features.

    `centred` takes the mean of the guided pictures' features away before the cosine: needed for features that have
    much in common in all pictures, or else everything is similar. `progress` is told how many network rows were
    evaluated since last. Raises `CalibrationError` (see `check_guided`; no requests, a single one to centre) and
    `NumericalError`.
    """
    check_guided(pipeline, plan)
    if len(requests) < (2 if centred else 1):
        raise CalibrationError(f"{len(requests)} pictures are too few to compare", "Give more prompts or seeds")
    parts = [
        _features(pipeline, plan, requests[start : start + batch], features, grid, progress)
        for start in range(0, len(requests), batch)
    ]
    guided = np.concatenate([part[0] for part in parts])
    cosines = _cosines(np.concatenate([part[1] for part in parts], axis=2), guided, centred)
    deviation = cosines.std(axis=2, ddof=1) if len(requests) > 1 else np.zeros(cosines.shape[:2])
    return Similarity(grid, cosines.mean(axis=2), deviation, len(requests))


def _cosines(found: Floats, guided: Floats, centred: bool) -> Floats:
    """[S, K, N] of features [S, K, N, D] with those of the guided pictures [N, D]; 1 where they are equal."""
    if centred:
        found, guided = found - guided.mean(axis=0), guided - guided.mean(axis=0)
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(guided, axis=-1)
    cosines = (found * guided).sum(axis=-1) / np.maximum(lengths, 1e-12)
    return np.where((found == guided).all(axis=-1), 1.0, np.clip(cosines, 0.0, 1.0))


@torch.inference_mode()
def _features(
    pipeline: Pipeline,
    plan: Plan,
    requests: Sequence[Request],
    features: Features,
    grid: Grid,
    progress: Callable[[int], None] | None,
) -> tuple[Floats, Floats]:
    """[N, D] of the guided pictures of one batch of N, and [S, K, N, D] of the others."""
    variants = _Variants(pipeline, plan, requests, progress)
    guided = features(variants.pixels(np.zeros(len(plan), dtype=np.bool_), keep=True))
    shared = variants.known
    found = np.empty((len(grid.firsts), len(grid.counts), *guided.shape))
    for place, first in enumerate(grid.firsts):
        variants.known = dict(shared)  # what the start before added is not needed again
        left = len(plan) - first
        rest = features(variants.pixels(grid.skipped(first, left), keep=True))
        for index, count in enumerate(grid.counts):
            skipped = grid.skipped(first, count)
            found[place, index] = rest if count >= left else features(variants.pixels(skipped))
    return guided, found


class _Variants:
    """Makes pictures of the same requests with different rows unguided, and no row twice.

    A row's output follows from the rows skipped up to it. `known` holds outputs by those decisions, so variants share
    all rows up to the first that they decide differently, and what comes out is what running each alone gives.
    """

    def __init__(
        self, pipeline: Pipeline, plan: Plan, requests: Sequence[Request], progress: Callable[[int], None] | None
    ) -> None:
        self._pipeline, self._plan, self._progress = pipeline, plan, progress
        self._size = pipeline.size(requests[0])
        self._start = Start.of(pipeline, requests)
        self.known: dict[bytes, torch.Tensor] = {}

    def pixels(self, skipped: NDArray[np.bool_], keep: bool = False) -> NDArray[np.uint8]:
        """[N, H, W, channels]; `keep` the outputs of its rows for other variants."""

        def evaluate(row: int, rows: Rows) -> torch.Tensor:
            decisions = skipped[: row + 1].tobytes()
            output = self.known.get(decisions)
            if output is None:
                output = self._pipeline.denoise(rows)
                if keep:
                    self.known[decisions] = output
                if self._progress is not None:
                    self._progress(len(rows))
            return output

        plan = skip(self._plan, np.flatnonzero(skipped).tolist())
        latents = Lockstep(self._pipeline, plan, self._size).run(self._start, evaluate)
        if not torch.isfinite(latents).all():
            raise NumericalError("latents became NaN or infinite", "Calibrate in float32 or bfloat16")
        return self._pipeline.decode(latents).cpu().numpy()

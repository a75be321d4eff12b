"""What skipping guidance costs, as a file: the curve that a quality threshold is applied to."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from headrace.artefact import SolverArtefact
from headrace.errors import ArtefactError
from headrace.techniques.guidance.calibrate import Similarity

TAUS = (0.99, 0.95, 0.9)

_Share = Annotated[float, Field(ge=0, le=1)]
_Curve = tuple[tuple[_Share, ...], ...]


class GuidanceArtefact(SolverArtefact):
    """What `headrace calibrate guidance` found (SynerDiff, section III-B, Fig. 9).

    There are S starts and K shares; a share larger than what is left after a start means all the rest of the rows.
    `figures` say, for thresholds tau, from which progress on a single row may be skipped (`one_from_TAU`), from which
    on all the rest may (`all_from_TAU`), and the largest share of network rows that a window saves (`saving_TAU`);
    left out where no row may be.
    """

    KIND: ClassVar[str] = "guidance window"

    solver_name: str | None = Field(description="as a request names it; None: the model's own")
    guidance_scale: float = Field(description="classifier-free guidance of the rows that were not skipped")
    extractor: str = Field(min_length=1, description="whose features are compared")
    extractor_digest: str = Field(min_length=1, description="its weights")
    centred: bool = Field(description="whether the features' mean was taken away before the cosine")
    pictures: int = Field(ge=1, description="what mean and deviation are over")
    starts: tuple[_Share, ...] = Field(min_length=1, description="progress (row / rows) of the first skipped row")
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        min_length=1, description="rows skipped from there on, of all rows"
    )
    similarity: _Curve = Field(description="a list a start, a number a share: cosine with the guided picture, mean")
    deviation: tuple[tuple[Annotated[float, Field(ge=0)], ...], ...] = Field(description="its standard deviation")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("starts", "shares"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise ArtefactError(f"{name} are {values}, not increasing", "Give a file that calibration wrote")
        wanted = [len(self.shares)] * len(self.starts)
        for name in ("similarity", "deviation"):
            if [len(line) for line in getattr(self, name)] != wanted:
                problem = f"{name} does not have {len(self.starts)} lines of {len(self.shares)} numbers"
                raise ArtefactError(problem, "Give a file that calibration wrote, unchanged")
        return self

    @classmethod
    def build(cls, found: Similarity, **identity: Any) -> Self:
        """From a measurement; `identity` are the fields that it does not hold."""
        grid = found.grid
        made = cls(
            **identity,
            pictures=found.pictures,
            starts=grid.starts,
            shares=grid.shares,
            similarity=tuple(map(tuple, found.mean.tolist())),
            deviation=tuple(map(tuple, found.deviation.tolist())),
        )
        figures = {f"{name}_{tau:g}": value for tau in TAUS for name, value in made.bounds(tau).items()}
        return made.model_copy(update={"figures": figures})

    def check(self, model: str, weights: str) -> None:
        """Raises `ArtefactError` for a model of other weights: how much it depends on guidance is its own."""
        if self.weights != weights:
            raise ArtefactError(
                f"the guidance window was measured on {self.model!r}, and this is {model!r} or other weights of it",
                "Measure this one: headrace calibrate guidance MODEL",
            )

    def bounds(self, tau: float) -> dict[str, float]:
        """The window of a threshold, by name as in `figures`; measured starts and shares only, none in between.

        A start counts only where all later ones keep the threshold as well, so that noise opens no window too early.
        """
        kept = np.array(self.similarity) >= tau
        found: dict[str, float] = {}
        for name, column in (("one_from", kept[:, 0]), ("all_from", kept[:, -1])):
            below = np.flatnonzero(~column)
            place = int(below[-1]) + 1 if below.size else 0
            if place < len(self.starts):
                found[name] = self.starts[place]
        skipped = [
            min(share, 1 - start)
            for start, line in zip(self.starts, kept, strict=True)
            if start >= found.get("one_from", np.inf)
            for index, share in enumerate(self.shares)
            if line[: index + 1].all()
        ]
        if skipped:
            found["saving"] = max(skipped) / 2  # of two network rows, a skip leaves out one
        return found

"""Block cache schedules for settings, each profile measured once in a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.artefact import Cached, Choice, cached_blocks, choose
from headrace.techniques.block_caching.calibrate import Profile, Work, measure_work, profile
from headrace.techniques.block_caching.displacement import Displacement, measure_displacement
from headrace.techniques.block_caching.schedule import Schedule
from headrace.tuning.settings import Settings

_DISPLACED_BATCH = 2


class Schedules:
    """Chooses schedules for a pipeline without a cache; a solver and a step count are profiled when first asked for.

    `requests` are what profiles are measured on, `plan` what plans one of them without any technique, `batch` how many
    run at once.
    """

    def __init__(
        self, pipeline: Pipeline, requests: Sequence[Request], plan: Callable[[Request], Plan], batch: int
    ) -> None:
        self._pipeline = pipeline
        self._requests = requests
        self._plan = plan
        self._batch = batch
        self._work: Work | None = None
        self._profiles: dict[tuple[str | None, int], Profile] = {}
        self._displacements: dict[tuple[str | None, int, Cached], Displacement] = {}

    def __call__(self, settings: Settings) -> Schedule | None:
        """The schedule of these settings; None where they cache no blocks. Raises `CalibrationError`."""
        if settings.block_saving == 0:
            return None
        choice = Choice(settings.block_kind, saving=settings.block_saving, criterion=settings.block_criterion)
        found = self._profile(settings)
        displaced = self._displacement(settings, found, choice) if choice.criterion == "displacement" else None
        schedule, _ = choose(found, displaced, choice)
        return schedule

    def _asked(self, settings: Settings, count: int) -> list[Request]:
        update = {"solver": settings.solver, "steps": settings.steps}
        return [request.model_copy(update=update) for request in self._requests[:count]]

    def _profile(self, settings: Settings) -> Profile:
        key = (settings.solver, settings.steps)
        if key not in self._profiles:
            asked = self._asked(settings, len(self._requests))
            self._work = self._work or measure_work(self._pipeline, asked[0])
            plan = self._plan(asked[0])
            self._profiles[key] = profile(self._pipeline, plan, asked, self._work, self._batch)
        return self._profiles[key]

    def _displacement(self, settings: Settings, found: Profile, choice: Choice) -> Displacement:
        key = (settings.solver, settings.steps, settings.block_kind)
        if key not in self._displacements:
            asked = self._asked(settings, _DISPLACED_BATCH)
            blocks = cached_blocks(found.work, choice)
            plan = self._plan(asked[0])
            self._displacements[key] = measure_displacement(self._pipeline, plan, asked, blocks, _DISPLACED_BATCH)
        return self._displacements[key]

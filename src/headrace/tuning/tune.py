"""A whole tuning: the space that suits a model, the search, the choice, and its confirmation on other prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.errors import ModelError, PlanError, SolverError, TuningError
from headrace.evaluation.machine import describe_machine
from headrace.models.blocks import find_blocks
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.artefact import solver_identity
from headrace.techniques.postdiff.network import deep_blocks
from headrace.techniques.postdiff.schedule import mixed_resolution
from headrace.tuning.acceleration import AccelerationArtefact, CacheSchedule, Expectation, FrontPoint
from headrace.tuning.measure import Measure, Subject
from headrace.tuning.search import Budget, Watcher, best, search
from headrace.tuning.settings import Settings
from headrace.tuning.space import Space
from headrace.tuning.state import SearchState
from headrace.tuning.trial import Outcome, Trial
from headrace.tuning.wish import Wish

STEP_SHARES = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2)
_LOW_SCALES = (0.75, 0.5)


@dataclass(frozen=True)
class Found:
    """What a search found: its last trials, the best of them, and the operations of a picture over the baseline's."""

    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    plain: Outcome
    macs: dict[str, float] = field(default_factory=dict)

    def macs_share(self, settings: Settings) -> float | None:
        """Where it was counted."""
        return self.macs.get(settings.identity)


class Tuning:
    """Searches settings for a subject and confirms the chosen ones. `advance` is told of pictures as they are made.

    `folder` holds the state, search.json: a tuning that stopped goes on from there. `prompts` identifies the data, and
    `searched` is how many of the subject's requests the search may see.
    """

    def __init__(
        self,
        subject: Subject,
        budget: Budget,
        wish: Wish,
        folder: Path,
        searched: int,
        prompts: str,
        solvers: Sequence[str] = (),
        seed: int = 0,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        self._subject = subject
        self._budget = budget
        self._wish = wish
        self._searched = searched
        self._seed = seed
        self._measure = Measure(subject, advance)
        self._plan = self._measure.plan(subject.baseline)
        self.space = space_of(subject, self._plan, solvers)
        self.state = SearchState(folder / "search.json", self._identity(prompts))

    def _identity(self, prompts: str) -> dict[str, str]:
        """What trials depend on besides settings and pictures."""
        subject = self._subject
        return {
            "model": f"{subject.pipeline.name} {pipeline_fingerprint(subject.pipeline)}",
            "baseline": subject.baseline.label,
            "solver": solver_identity(self._plan),
            "guidance scale": f"{subject.pipeline.guidance_scale(subject.requests[0]):g}",
            "metric": subject.judge.metric,
            "prompts": prompts,
            "batch": str(subject.batch),
            "device": f"{subject.pipeline.device}, {subject.pipeline.dtype}",
            "seed": str(self._seed),
        }

    def search(self, watcher: Watcher | None = None) -> Found:
        """The front. Raises `TuningError` where no settings can be measured."""
        start = start_of(self.space)
        trials = search(self.space, self._trial, self._budget, self.state, start, self._wish, self._seed, watcher)
        plain = self.state.get(self.space.baseline, self._budget.most)
        if plain is None or plain.outcome is None:
            fault = "it was not measured" if plain is None else plain.fault
            raise TuningError(f"plain sampling has no outcome to compare with: {fault}", "Mend that, and run again")
        front = best(trials)
        whole = self._measure.macs(self.space.baseline)
        macs = {one.settings.identity: self._measure.macs(one.settings) / whole for one in front}
        return Found(tuple(trials), tuple(front), plain.outcome, macs)

    def _trial(self, settings: Settings, pictures: int) -> Outcome:
        return self._measure.search(settings, pictures, final=pictures == self._budget.most)

    def confirm(self, found: Found) -> AccelerationArtefact:
        """Chooses from what was found and measures it on the prompts that the search did not see.

        Raises `TuningError` where nothing grants the wish: it says the best there is.
        """
        subject, chosen = self._subject, self._wish.choose(found.trials)
        settings = chosen.settings
        others = range(self._searched, len(subject.requests))
        confirmed = self._measure.confirm(settings, others)
        schedule = self._measure.schedules(settings)
        plan = self._measure.plan(settings)
        return AccelerationArtefact(
            model=subject.pipeline.name, weights=pipeline_fingerprint(subject.pipeline),
            solver=solver_identity(plan), steps=settings.steps, settings=settings, baseline=subject.baseline,
            guidance_scale=subject.pipeline.guidance_scale(subject.requests[0]),
            schedule=None if schedule is None else CacheSchedule.of(schedule), metric=subject.judge.metric,
            wish=str(self._wish), plain_quality=found.plain.quality,
            expected=expectation(chosen.found, chosen.pictures), confirmed=expectation(confirmed, len(others)),
            front=tuple(
                FrontPoint(
                    settings=one.settings, expected=expectation(one.found, one.pictures),
                    macs_share=found.macs_share(one.settings),
                )
                for one in found.front
            ),
            machine=describe_machine(subject.pipeline.device),
        )  # fmt: skip


def expectation(outcome: Outcome, pictures: int) -> Expectation:
    """An outcome as an artefact tells it."""
    return Expectation(
        pictures=pictures, speedup=outcome.speedup, quality=outcome.quality, figures=dict(outcome.figures)
    )


def space_of(subject: Subject, plan: Plan, solvers: Sequence[str] = ()) -> Space:
    """What can be searched for a model: techniques that it has nothing for are left out. `plan` is the baseline's."""
    pipeline, baseline = subject.pipeline, subject.baseline
    steps = dict.fromkeys(max(1, round(share * baseline.steps)) for share in STEP_SHARES)
    values: dict[str, tuple[Any, ...]] = {"steps": tuple(steps)}
    if solvers:
        values["solver"] = tuple(dict.fromkeys([baseline.solver, *solvers]))
    if (plan.guidance != 1).any():
        values["guidance_share"] = (1.0, 0.85, 0.75, 0.6, 0.5, 0.35)
    scales = _scales(pipeline, plan, subject.requests[0])
    if scales:
        values |= {"low_share": (0.0, 0.2, 0.35, 0.5, 0.65), "low_scale": scales}
    if _has_branch(pipeline):
        values["deep_interval"] = (1, 2, 3, 4)
    if find_blocks(pipeline.network, "cross_attention"):
        values["cross_share"] = (1.0, 0.75, 0.5, 0.35)
    if find_blocks(pipeline.network, "transformer") or find_blocks(pipeline.network, "resnet"):
        values["block_saving"] = (0.0, 0.15, 0.3, 0.45)
        values["block_criterion"] = ("displacement", "change")
        values["block_kind"] = ("all", "branch") if _has_branch(pipeline) else ("all",)
    return Space(baseline, values)


def start_of(space: Space) -> list[Settings]:
    """PostDiff's constants together, each technique of theirs alone, and half the steps."""
    half = min((abs(steps - space.baseline.steps / 2), steps) for steps in space.values["steps"])[1]
    together = {"guidance_share": 0.75, "low_share": 0.5, "low_scale": 0.5, "deep_interval": 2, "cross_share": 0.75}
    low = {"low_share": 0.5, "low_scale": 0.5}
    asked = ({"steps": half}, together, low, {"deep_interval": 2}, {"guidance_share": 0.75}, {"cross_share": 0.75})
    found = {one.identity: one for one in (space.at(**changes) for changes in asked)}
    found.pop(space.baseline.identity, None)
    return list(found.values())


def _scales(pipeline: Pipeline, plan: Plan, request: Request) -> tuple[float, ...]:
    """The smaller sizes that this model's latents can have, if its solver can begin anew in its middle."""
    shape = pipeline.latent_shape(*pipeline.size(request))
    found = []
    for scale in _LOW_SCALES:
        try:
            pipeline.scaled_shape(shape, scale)
            mixed_resolution(plan, 0.5, scale)
        except (PlanError, SolverError):
            continue
        found.append(scale)
    return tuple(found)


def _has_branch(pipeline: Pipeline) -> bool:
    try:
        return bool(deep_blocks(pipeline.network))
    except ModelError:
        return False

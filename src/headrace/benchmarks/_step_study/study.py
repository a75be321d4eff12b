"""The study itself: which points there are, what is measured of them, and the answers that follow."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from headrace.benchmarks._step_study.curve import Curve
from headrace.benchmarks._step_study.duel import Duel, duel
from headrace.benchmarks._step_study.families import PLAIN, Family
from headrace.benchmarks._step_study.measure import Attach, Contestant, Measurement
from headrace.benchmarks._step_study.quality import PSNR, Judge, Measure, Scores, Truth
from headrace.engine import Engine
from headrace.errors import DataError, HeadraceError
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request
from headrace.tuning.settings import Settings

CostName = Literal["macs", "seconds"]
ANY = "any of them"


@dataclass(frozen=True, eq=False)
class Point:
    """One family at one number of steps: what a picture costs, and what it is worth."""

    family: str
    settings: Settings
    macs: int
    seconds: float
    scores: Scores

    def cost(self, name: CostName) -> float:
        """Operations or seconds of a picture."""
        return float(self.macs if name == "macs" else self.seconds)


@dataclass(frozen=True, eq=False)
class Answer:
    """Cheaper steps of one family (or the best of all, `ANY`) against fewer ones, by one measure at equal cost."""

    family: str
    measure: Measure
    cost: CostName
    duel: Duel


@dataclass(frozen=True, eq=False)
class Study:
    """All points and answers. `notes`: which families were left out and why, for people."""

    points: tuple[Point, ...]
    measures: tuple[Measure, ...]
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What is asked: these numbers of steps and ways to cheaper steps, of one solver. `batch`: pictures at a time."""

    solver: str | None
    steps: Sequence[int]
    cheaper: Sequence[Family]
    batch: int = 16


@dataclass
class _Field:
    """The contestants, plain ones first, and why others are not among them."""

    contestants: list[Contestant] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run_study(
    pipeline: Pipeline, requests: Sequence[Request], question: Question, attach: Attach, truth: Truth | None
) -> Study:
    """Measures everything in one run. `requests` say what is made (prompt or class, seed), not how.

    Raises `DataError` for fewer than two pictures or numbers of steps, or where no family suits the model, and what
    plans and requests raise; all of it before any picture is made.
    """
    if len(requests) < 2 or len(set(question.steps)) < 2:
        raise DataError(
            f"{len(requests)} picture(s) at {len(set(question.steps))} number(s) of steps make no curve",
            "Give at least two of each",
        )
    found = _field(pipeline, requests[0], question, attach)
    with tempfile.TemporaryDirectory(prefix="headrace-study-") as folder:
        Measurement(pipeline, requests, attach, question.batch, Path(folder)).run(found.contestants)
        points, measures = _judged(found.contestants, truth)
    return Study(points, measures, answers(points, measures), tuple(found.notes))


def _judged(contestants: Sequence[Contestant], truth: Truth | None) -> tuple[tuple[Point, ...], tuple[Measure, ...]]:
    plain = [one for one in contestants if one.family == PLAIN.name]
    judge = Judge(max(plain, key=lambda one: one.settings.steps).pictures, truth)
    points = tuple(
        Point(one.family, one.settings, one.macs, one.seconds_a_picture, judge.scores(one.pictures))
        for one in contestants
    )
    return points, judge.measures


def _field(pipeline: Pipeline, request: Request, question: Question, attach: Attach) -> _Field:
    """Families that change nothing of this model's plans, or that it cannot do, are left out."""
    planner, steps = Engine(pipeline), sorted(set(question.steps))
    plain = {
        count: planner.plan(request.model_copy(update={"solver": question.solver, "steps": count})) for count in steps
    }
    found = _Field([Contestant(PLAIN.name, PLAIN.settings(question.solver, count)) for count in steps])
    for family in question.cheaper:
        contestants = []
        try:
            for count in steps:
                settings = family.settings(question.solver, count)
                with attach(pipeline, settings) as decide:
                    decided = decide(plain[count])
                    decided.check_reuse()
                if decided != plain[count]:
                    contestants.append(Contestant(family.name, settings))
        except HeadraceError as error:
            found.notes.append(f"{family.name} is left out: {error}")
            continue
        found.contestants += contestants
        if not contestants:
            found.notes.append(f"{family.name} is left out: it changes nothing of this model's plans")
    if len(found.contestants) == len(steps):
        raise DataError(
            f"{pipeline.name} can take none of the cheaper steps: {'; '.join(found.notes)}", "Use another model"
        )
    return found


def answers(points: Sequence[Point], measures: Sequence[Measure]) -> tuple[Answer, ...]:
    """For every measure and cost: each family against fewer steps, and the best of all families where there are more.

    A pair whose costs have no range in common gives none.
    """
    families = list(dict.fromkeys(point.family for point in points if point.family != PLAIN.name))
    asked = [([family], family) for family in families] + ([(families, ANY)] if len(families) > 1 else [])
    found = []
    costs: tuple[CostName, ...] = ("macs", "seconds")
    for measure in measures:
        for cost in costs:
            for members, name in asked:
                curves = [curve_of(points, family, measure, cost) for family in members]
                result = duel(curve_of(points, PLAIN.name, measure, cost), curves)
                if result is not None:
                    found.append(Answer(name, measure, cost, result))
    return tuple(found)


def curve_of(points: Sequence[Point], family: str, measure: Measure, cost: CostName) -> Curve:
    """One family's points, quality turned so that more is better.

    By the distance to the most plain steps, these are no point of their own curve: they are equal to themselves.
    """
    own = [point for point in points if point.family == family]
    if measure == PSNR and family == PLAIN.name:
        own = sorted(own, key=lambda point: point.settings.steps)[:-1]
    sign = 1.0 if measure.higher else -1.0
    replicates = [
        sign * point.scores.replicates[measure.name] for point in own if measure.name in point.scores.replicates
    ]
    return Curve.of(
        [point.cost(cost) for point in own],
        [sign * point.scores.figures[measure.name] for point in own],
        [list(values) for values in zip(*replicates, strict=True)] if replicates else None,
    )

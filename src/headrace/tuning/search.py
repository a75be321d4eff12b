"""Successive halving over settings: many on few pictures, the best trades of cost and quality on more, and so on.

After Jamieson and Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization", with the
survivors of a rung chosen by non-dominated sorting instead of one score (`headrace.tuning.pareto`), and with a first
rung that does not only draw at random: half of its candidates are neighbours of the best trades found until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headrace.errors import HeadraceError, OutputError, TuningError
from headrace.tuning.pareto import Point, front, survivors
from headrace.tuning.settings import Settings
from headrace.tuning.space import Space
from headrace.tuning.state import SearchState
from headrace.tuning.surrogate import Additive
from headrace.tuning.trial import Outcome, Trial
from headrace.tuning.wish import Wish

_GENERATIONS = 2  # of proposals in the first rung
_POOL = 150  # points that proposals are chosen from
_PATIENCE = 50  # draws without a new point before a small space counts as used up


class Evaluate(Protocol):
    """Measures settings on the first so many prompts."""

    def __call__(self, settings: Settings, pictures: int) -> Outcome:
        """Raises `HeadraceError` where these settings cannot be carried out."""
        ...


class Watcher(Protocol):
    """Is told what happens."""

    def trial(self, trial: Trial, rung: int, fresh: bool) -> None:
        """A trial of a rung, counted from 0: measured now, or (not `fresh`) by an earlier run."""


@dataclass(frozen=True)
class Budget:
    """How much a search may measure.

    Attributes:
        candidates: settings in the first rung.
        least: pictures of each in the first rung.
        most: pictures of each in the last rung.
        factor: by how much pictures grow and candidates shrink from rung to rung.
        finalists: the least number of candidates in a rung.

    Raises `TuningError` for numbers that are none.
    """

    candidates: int = 48
    least: int = 8
    most: int = 128
    factor: float = 2.5
    finalists: int = 6

    def __post_init__(self) -> None:
        for name, lowest in (("candidates", 2), ("least", 1), ("most", self.least), ("finalists", 2)):
            if getattr(self, name) < lowest:
                raise TuningError(f"{name} is {getattr(self, name)}", f"Use at least {lowest}")
        if not self.factor > 1:
            raise TuningError(f"factor is {self.factor}", "Use more than 1")

    @property
    def rungs(self) -> list[tuple[int, int]]:
        """(candidates, pictures of each) of every rung."""
        halvings = max(round(math.log(self.most / self.least, self.factor)), 1 if self.most > self.least else 0)
        growth = (self.most / self.least) ** (1 / max(halvings, 1))
        finalists = min(self.finalists, self.candidates)
        return [
            (max(finalists, round(self.candidates / growth**rung)), round(self.least * growth**rung))
            for rung in range(halvings + 1)
        ]

    @property
    def pictures(self) -> int:
        """Of all trials together, at most."""
        return sum(count * pictures for count, pictures in self.rungs)


def search(
    space: Space,
    evaluate: Evaluate,
    budget: Budget,
    state: SearchState | None = None,
    start: Sequence[Settings] = (),
    wish: Wish | None = None,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> list[Trial]:
    """The trials of the last rung that came to something; `best` of them are the answer.

    `start` are candidates for sure, and the space's baseline is one of every rung; a part of a rung's places goes to
    what comes nearest to `wish`. What `state` holds is not measured again, so the same call goes on where an earlier
    one stopped: with equal outcomes, equal decisions follow. Raises `TuningError` where no candidate can be measured.
    """
    kept_trials = SearchState(None, {}) if state is None else state
    prefer = None if wish is None else wish.preference
    run = _Run(space, evaluate, kept_trials, np.random.default_rng(seed), prefer, watcher)
    (candidates, pictures), *further = budget.rungs
    trials = run.explore(start, candidates, pictures)
    for rung, (candidates, pictures) in enumerate(further, start=1):
        points = [trial.found.point for trial in trials]
        kept = {space.baseline.identity: space.baseline}
        _include(kept, (trials[place].settings for place in survivors(points, candidates, prefer)), candidates)
        trials = run.measure(list(kept.values()), pictures, rung) or trials
    return trials


def best(trials: Sequence[Trial]) -> list[Trial]:
    """The Pareto front of trials that have outcomes, the slowest first."""
    return [trials[place] for place in front([trial.found.point for trial in trials])][::-1]


class _Run:
    """The moves of one search."""

    def __init__(
        self,
        space: Space,
        evaluate: Evaluate,
        state: SearchState,
        generator: np.random.Generator,
        prefer: Callable[[Point], Any] | None,
        watcher: Watcher | None,
    ) -> None:
        self._space = space
        self._evaluate = evaluate
        self._state = state
        self._generator = generator
        self._prefer = prefer
        self._watcher = watcher

    def explore(self, start: Sequence[Settings], candidates: int, pictures: int) -> list[Trial]:
        """The first rung: what is given and drawn, then neighbours of the front in a few generations."""
        seen: dict[str, Settings] = {}
        _include(seen, [self._space.baseline, *start], candidates)
        _include(seen, self._drawn(seen, -(-candidates // 2) - len(seen)), candidates)
        trials = self.measure(list(seen.values()), pictures, rung=0)
        if not trials:
            fault = next(one.fault for one in self._state if one.fault)
            raise TuningError(f"none of the settings can be measured: {fault}", "Mend that, or search other settings")
        for left in range(_GENERATIONS, 0, -1):
            room = -(-(candidates - len(seen)) // left)
            fresh = self._proposed(trials, seen, room)
            _include(seen, fresh, candidates)
            trials += self.measure(fresh, pictures, rung=0)
        return trials

    def measure(self, candidates: Sequence[Settings], pictures: int, rung: int) -> list[Trial]:
        """The trials of distinct candidates that came to something."""
        trials = [self._trial(settings, pictures, rung) for settings in candidates]
        return [trial for trial in trials if trial.outcome is not None]

    def _trial(self, settings: Settings, pictures: int, rung: int) -> Trial:
        known = self._state.get(settings, pictures)
        trial = known or self._measured(settings, pictures)
        if known is None:
            self._state.add(trial)
        if self._watcher is not None:
            self._watcher.trial(trial, rung, fresh=known is None)
        return trial

    def _measured(self, settings: Settings, pictures: int) -> Trial:
        try:
            return Trial(settings=settings, pictures=pictures, outcome=self._evaluate(settings, pictures))
        except OutputError:
            raise
        except HeadraceError as error:
            return Trial(settings=settings, pictures=pictures, fault=str(error))

    def _proposed(self, trials: Sequence[Trial], seen: dict[str, Settings], count: int) -> list[Settings]:
        """At most `count` unseen points that are expected on the front: neighbours of the best, or drawn ones."""
        points = [trial.found.point for trial in trials]
        parents = survivors(points, max(1, len(trials) // 3), self._prefer)
        around = {one.identity: one for place in parents for one in self._space.neighbours(trials[place].settings)}
        pool = [one for identity, one in around.items() if identity not in seen]
        pool += self._drawn({**seen, **around}, _POOL)
        if not pool or count < 1:
            return []
        expected = Additive(self._space, [trial.settings for trial in trials], points).predict(pool)
        return [pool[place] for place in survivors(expected, count, self._prefer)]

    def _drawn(self, seen: dict[str, Settings], count: int) -> list[Settings]:
        """At most `count` unseen random points; fewer where the space has no more."""
        found: dict[str, Settings] = {}
        misses = 0
        while len(found) < count and misses < _PATIENCE:
            one = self._space.sample(self._generator)
            if one.identity in seen or one.identity in found:
                misses += 1
            else:
                found[one.identity], misses = one, 0
        return list(found.values())


def _include(seen: dict[str, Settings], more: Iterable[Settings], most: int) -> None:
    for settings in more:
        if len(seen) < most:
            seen.setdefault(settings.identity, settings)

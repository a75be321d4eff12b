"""How far the tuner's answer is from the best of a grid that was measured whole."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np

from headrace.errors import TuningError
from headrace.tuning.search import Budget, best, search
from headrace.tuning.settings import Settings
from headrace.tuning.space import Space
from headrace.tuning.trial import Outcome
from headrace.tuning.wish import Wish


def regret(outcomes: Mapping[Settings, Outcome], space: Space, seeds: int = 20) -> float:
    """How much quality the answer of a search that measures half of the grid lacks, in the outcomes' own unit.

    The mean over seeds and three target speed-ups (quartiles of the grid's costs) of the best quality in the grid at
    that speed less that of the search's answer; 0 is perfect.
    Every settings of the space must be among `outcomes`. Nothing is measured: the search reads them.
    """
    known = {settings.identity: outcome for settings, outcome in outcomes.items()}
    costs = sorted({outcome.cost.value for outcome in outcomes.values()})
    targets = np.quantile(costs, (0.25, 0.5, 0.75))
    budget = Budget(candidates=max(len(known) // 2, 2), least=1, most=2, finalists=4)
    lost = []
    for seed, target in product(range(seeds), targets):
        wish = Wish(target_speedup=max(1.0, 1 / float(target)))
        possible = [one.quality.value for one in known.values() if wish.preference(one.point)[0]]
        trials = best(search(space, _Measured(known), budget, wish=wish, seed=seed))
        answered = [trial.found.quality.value for trial in trials if wish.preference(trial.found.point)[0]]
        lost.append(max(possible) - max(answered, default=min(possible)))
    return float(np.mean(lost))


class _Measured:
    """Looks settings up."""

    def __init__(self, known: Mapping[str, Outcome]) -> None:
        self._known = known

    def __call__(self, settings: Settings, pictures: int) -> Outcome:
        if settings.identity not in self._known:
            raise TuningError(f"{settings.label} was not measured", "Search the grid that was measured")
        return self._known[settings.identity]

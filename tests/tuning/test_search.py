"""Successive halving on a made-up landscape: what it finds, what it costs, and how it goes on after a stop."""

from __future__ import annotations

import json

import numpy as np
import pytest
from landscape import BASELINE, SPACE, Landscape, cost, everywhere, quality, true_front

from headrace.errors import TuningError
from headrace.tuning.pareto import regret
from headrace.tuning.search import Budget, best, search
from headrace.tuning.settings import Settings
from headrace.tuning.space import Space
from headrace.tuning.state import SearchState
from headrace.tuning.wish import Wish

BUDGET = Budget(candidates=60, least=8, most=128)
IDENTITY = {"model": "boat", "solver": "dpm++2m"}


def true_points(trials):
    return [(cost(trial.settings), quality(trial.settings)) for trial in trials]


TARGETS = (2.0, 3.0)


def missing(trials, speedup: float) -> float:
    """Quality that the best of the trials is short of the best there is at this speed-up."""
    return regret(true_points(trials), true_front(), [1 / speedup])


@pytest.mark.parametrize(("noise", "most"), [(0.0, 0.005), (0.1, 0.03)])
def test_the_best_settings_for_a_speed_up_are_found_with_little_work(noise, most):
    """Noise of 0.1 a picture is 0.035 in the first rung: more than what most good settings differ by."""
    short = []
    for seed, speedup in enumerate(TARGETS):
        landscape = Landscape(noise)
        short.append(missing(best(search(SPACE, landscape, BUDGET, wish=Wish(speedup), seed=seed)), speedup))
        made = sum(pictures for _, pictures in landscape.calls)
        assert made <= BUDGET.pictures < len(everywhere()) * BUDGET.most / 50
    assert np.mean(short) < most


def test_halving_beats_as_many_pictures_spent_on_random_settings():
    halving, random = [], []
    for seed, speedup in enumerate(TARGETS):
        landscape = Landscape(0.1)
        halving.append(missing(best(search(SPACE, landscape, BUDGET, wish=Wish(speedup), seed=seed)), speedup))
        generator = np.random.default_rng(seed)
        drawn = [SPACE.sample(generator) for _ in range(BUDGET.pictures // BUDGET.most)]
        points = [(cost(one), quality(one)) for one in drawn]
        random.append(regret(points, true_front(), [1 / speedup]))
    assert np.mean(halving) < 0.5 * np.mean(random)


def test_rungs_grow_in_pictures_and_shrink_in_candidates_and_hold_the_baseline():
    landscape = Landscape()
    search(SPACE, landscape, BUDGET)
    for candidates, pictures in BUDGET.rungs:
        settings = [one for one, made in landscape.calls if made == pictures]
        assert len(settings) == len({one.identity for one in settings}) <= candidates
        assert BASELINE.identity in {one.identity for one in settings}
    counts, pictures = zip(*BUDGET.rungs, strict=True)
    assert counts == tuple(sorted(counts, reverse=True))
    assert (pictures[0], pictures[-1]) == (BUDGET.least, BUDGET.most)


def test_what_is_given_is_measured_and_the_same_seed_gives_the_same_search():
    given = Settings(solver="dpm++2m", steps=20, low_share=0.5, low_scale=0.5, deep_interval=2)
    one, other = Landscape(0.05), Landscape(0.05)
    trials = search(SPACE, one, BUDGET, start=[given], seed=4)
    assert given.identity in {settings.identity for settings, _ in one.calls}
    assert search(SPACE, other, BUDGET, start=[given], seed=4) == trials
    third = Landscape(0.05)
    search(SPACE, third, BUDGET, start=[given], seed=5)
    assert third.calls != one.calls == other.calls


@pytest.mark.parametrize("stop_after", [1, 70])
def test_a_second_run_goes_on_where_the_first_stopped(tmp_path, stop_after):
    whole = Landscape(0.05)
    expected = search(SPACE, whole, BUDGET, seed=1)
    file = tmp_path / "search.json"
    first = Landscape(0.05, stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        search(SPACE, first, BUDGET, SearchState(file, IDENTITY), seed=1)
    second = Landscape(0.05)
    assert search(SPACE, second, BUDGET, SearchState(file, IDENTITY), seed=1) == expected
    assert first.calls + second.calls == whole.calls
    third = Landscape(0.05)
    assert search(SPACE, third, BUDGET, SearchState(file, IDENTITY), seed=1) == expected
    assert third.calls == []


def test_the_state_of_another_model_or_solver_is_refused(tmp_path):
    file = tmp_path / "search.json"
    search(SPACE, Landscape(), Budget(candidates=4, least=2, most=2), SearchState(file, IDENTITY))
    with pytest.raises(TuningError, match=r"with model boat, and this one has model train.*--out"):
        SearchState(file, IDENTITY | {"model": "train"})
    with pytest.raises(TuningError, match="solver"):
        SearchState(file, {"model": "boat"})
    content = json.loads(file.read_text())
    content["trials"][0]["outcome"]["cost"]["low"] = 5.0
    file.write_text(json.dumps(content))
    with pytest.raises(TuningError, match="not the state of a search"):
        SearchState(file, IDENTITY)
    file.write_text("{")
    with pytest.raises(TuningError, match="not the state of a search"):
        SearchState(file, IDENTITY)


def test_settings_that_cannot_be_carried_out_are_left_out(tmp_path):
    landscape = Landscape(broken=lambda one: one.low_share > 0)
    state = SearchState(tmp_path / "search.json", IDENTITY)
    trials = search(SPACE, landscape, BUDGET, state)
    assert all(trial.settings.low_share == 0 for trial in trials)
    faults = [trial for trial in state if trial.fault]
    assert faults
    assert all("cannot be" in trial.fault and trial.pictures == BUDGET.least for trial in faults)
    with pytest.raises(TuningError, match=r"none of the settings can be measured: dpm\+\+2m 20 cannot be"):
        search(SPACE, Landscape(broken=lambda one: True), BUDGET)


def test_a_space_of_few_points_is_used_up():
    small = Space(BASELINE, {"steps": (20, 10), "guidance_share": (1.0, 0.5)})
    landscape = Landscape()
    search(small, landscape, BUDGET)
    assert len({settings.identity for settings, _ in landscape.calls}) == 4


@pytest.mark.parametrize("wrong", [{"candidates": 1}, {"least": 0}, {"most": 4}, {"factor": 1.0}, {"finalists": 1}])
def test_budgets_that_are_none(wrong):
    with pytest.raises(TuningError, match=next(iter(wrong))):
        Budget(**wrong)

"""Settings, the space that they are searched in, and the additive guess at those that were not measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from landscape import BASELINE, SPACE, cost, quality

from headrace.errors import TuningError
from headrace.tuning.settings import Settings
from headrace.tuning.space import Space
from headrace.tuning.surrogate import Additive


def drawn(seed, count=1):
    generator = np.random.default_rng(seed)
    return [SPACE.sample(generator) for _ in range(count)]


def test_what_a_technique_is_told_counts_for_nothing_while_it_is_off():
    assert Settings(low_scale=0.75).identity == Settings(low_scale=0.5).identity == Settings().identity
    assert Settings(block_kind="resnet", block_criterion="change").identity == Settings().identity
    scheduled = Settings(block_kind="branch", block_saving=0.2)
    assert scheduled.model_copy(update={"deep_interval": 3}).identity == scheduled.identity
    assert Settings(low_share=0.5, low_scale=0.75).identity != Settings(low_share=0.5).identity
    assert Settings(low_share=0.5, low_scale=1.0).plain
    assert Settings(solver="ddim", steps=7).plain
    assert not Settings(guidance_share=0.5).plain


def test_labels_say_what_is_on():
    assert Settings(solver="ddim", steps=7).label == "ddim 7"
    one = Settings(steps=9, guidance_share=0.75, low_share=0.5, deep_interval=2, cross_share=0.5, block_saving=0.3)
    assert one.label == "own solver 9, guided 0.75, s 0.5 at 0.5, k 2, m 0.5, all blocks by displacement 0.3"


@given(seed=st.integers(0, 1000))
def test_settings_come_back_from_json_and_identity_follows_meaning(seed):
    one, other = drawn(seed, 2)
    assert Settings.model_validate_json(one.model_dump_json()) == one
    assert (one.identity == other.identity) == (one == other)  # drawn ones are canonical


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"guidance_share": 1.1}, r"guidance_share: 1\.1"),
        ({"low_share": math.nan}, "low_share"),
        ({"low_scale": 0.0}, "low_scale"),
        ({"cross_share": -0.1}, "cross_share"),
        ({"deep_interval": 0}, "deep_interval: 0"),
        ({"block_saving": 1.0}, "block_saving"),
        ({"block_kind": "spiral"}, "spiral"),
        ({"steps": 0}, "steps"),
        ({"speed": 3}, "speed.*There is solver"),
    ],
)
def test_values_out_of_range_are_refused(values, words):
    with pytest.raises(TuningError, match=words):
        Settings.parse(values)


@given(seed=st.integers(0, 1000))
def test_neighbours_differ_in_one_setting_by_one_place(seed):
    [one] = drawn(seed)
    around = SPACE.neighbours(one)
    assert 0 < len(around) == len({other.identity for other in around})
    for other in around:
        changed = [name for name in SPACE.values if getattr(one, name) != getattr(other, name)]
        switched = {"low_share", "low_scale"}  # the scale goes with the share when that becomes 0
        assert len(changed) == 1 or set(changed) == switched


def test_spaces_of_unknown_settings_or_impossible_values_are_refused():
    for values in ({"speed": (1,)}, {"steps": ()}, {"steps": (0,)}):
        with pytest.raises(TuningError):
            Space(BASELINE, values)
    assert SPACE.at(steps=8, low_share=0.9) == BASELINE.model_copy(update={"steps": 8})


def test_the_guess_ranks_settings_that_were_not_measured():
    known, unknown = drawn(1, 60), drawn(2, 200)
    guess = Additive(SPACE, known, [(cost(one), quality(one)) for one in known]).predict(unknown)
    for place, truth in ((0, cost), (1, quality)):
        ranks = [np.argsort(np.argsort(values)) for values in ([g[place] for g in guess], [truth(u) for u in unknown])]
        assert np.corrcoef(ranks)[0, 1] > 0.9

"""Cache schedules as files: chosen from a profile, chosen again without measuring, refused where they do not fit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from saved_profile import IDENTITY, make_artefact, make_profile

from headrace.errors import ArtefactError, CalibrationError
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, Choice
from headrace.techniques.block_caching.displacement import Displacement
from headrace.techniques.block_caching.schedule import from_change, saving


def test_the_file_holds_profile_and_schedule(tmp_path):
    made = make_artefact(Choice(delta=0.4))
    made.save(tmp_path / "schedule.json")
    loaded = BlockCacheArtefact.load(tmp_path / "schedule.json")
    assert loaded == made
    profile, schedule = make_profile(), loaded.schedule
    expected = from_change(schedule.blocks, profile.timesteps, profile.change(schedule.blocks), 0.4)
    assert np.array_equal(schedule.compute, expected.compute)
    assert schedule.blocks == profile.work.blocks[:4]
    assert loaded.saving == pytest.approx(saving(expected, [0.1, 0.05, 0.12, 0.08]))
    assert loaded.figures["speedup_bound"] == pytest.approx(1 / (1 - loaded.saving))
    assert np.array_equal(loaded.profile.mean, profile.mean)
    assert np.array_equal(loaded.profile.deviation, profile.deviation)


def test_the_default_is_the_papers_threshold():
    assert make_artefact().delta == 0.5
    assert make_artefact().compute[0] == "####"


def test_another_schedule_needs_no_new_profile():
    made = make_artefact(Choice(delta=0.4))
    other = made.rebuilt(Choice("resnet", saving=0.1))
    assert (other.weights, other.steps, other.solver_name) == (made.weights, made.steps, made.solver_name)
    assert [block.split(".")[-2] for block in other.blocks] == ["resnets", "resnets"]
    assert other.saving >= 0.1
    assert other.change == made.change
    assert other.rebuilt(Choice(delta=0.4)).compute == made.compute


def test_blocks_that_reuse_together_do_so_where_it_costs_least(tmp_path):
    profile = make_profile()
    rows = len(profile.timesteps)
    values = np.full((rows - 1, 2), 0.5)
    values[2, 0] = 0.01  # row 3, from the row before
    displacement = Displacement(profile.work.blocks, values)
    choice = Choice("all", saving=0.01, criterion="displacement")
    made = BlockCacheArtefact.build(profile, choice, displacement, **IDENTITY)
    assert made.blocks == profile.work.blocks
    assert np.flatnonzero(~made.schedule.compute.all(axis=1)).tolist() == [3]
    assert not made.schedule.compute[3].any()
    assert made.saving >= 0.01
    assert made.delta == pytest.approx(0.01)
    made.save(tmp_path / "schedule.json")
    loaded = BlockCacheArtefact.load(tmp_path / "schedule.json")
    assert loaded == made
    assert loaded.rebuilt(choice).compute == made.compute
    assert loaded.rebuilt(Choice(delta=0.5)).criterion == "change"
    for source, kind in ((make_artefact(), "all"), (loaded, "transformer")):
        with pytest.raises(CalibrationError, match="no displacement was measured"):
            source.rebuilt(Choice(kind, saving=0.01, criterion="displacement"))


def test_identity_tells_schedules_and_blocks_apart():
    same, other = make_artefact(Choice(delta=0.4)), make_artefact(Choice(delta=0.9))
    assert make_artefact(Choice(delta=0.4)).identity == same.identity != other.identity
    zero = make_artefact(Choice(delta=0.0))
    assert zero.identity != make_artefact(Choice("resnet", delta=0.0)).identity


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"delta": 0.5, "saving": 0.5}, "both"),
        ({"delta": -1.0}, "delta is -1"),
        ({"delta": math.nan}, "delta is nan"),
        ({"saving": 1.5}, "saving of 1.5"),
        ({"saving": math.nan}, "saving of nan"),
        ({"kind": "spiral"}, "'spiral'"),
        ({"criterion": "taste"}, "'taste'"),
        ({"criterion": "displacement"}, "no threshold"),
        ({"criterion": "displacement", "delta": 0.5}, "no threshold"),
    ],
)
def test_wishes_that_cannot_be(arguments, words):
    with pytest.raises(CalibrationError, match=words):
        Choice(**arguments)


def test_a_saving_out_of_reach():
    with pytest.raises(CalibrationError, match=r"0\.400 cannot be reached.* save 0\.315"):
        make_artefact(Choice(saving=0.4))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"delta": -0.5}, "delta"),
        ({"saving": 1.0}, "saving"),
        ({"blocks": ["a"]}, "compute is not 10 x 1"),
        ({"blocks": ["a", "b", "c", "d"]}, "do not fit"),
        ({"compute": ["####"] * 9}, "compute is not 10 x 4"),
        ({"compute": ["...."] * 10}, "first row"),
        ({"compute": ["###x"] * 10}, "other letters"),
        ({"timesteps": [1.0]}, "timesteps"),
        ({"change": [[0.1]]}, "change is not 9 x 6"),
        ({"change": [[-0.1] * 6] * 9}, "change"),
        ({"macs": [1]}, "do not fit"),
        ({"network_macs": 0}, "network_macs"),
        ({"kinds": ["spiral"] * 6}, "kinds"),
        ({"kind": "latency table"}, "latency table"),
        ({"extra": 1}, "extra"),
    ],
)
def test_changed_files_are_refused(tmp_path, change, words):
    file = tmp_path / "schedule.json"
    file.write_text(json.dumps(make_artefact().model_dump(mode="json") | change))
    with pytest.raises(ArtefactError, match=words) as caught:
        BlockCacheArtefact.load(file)
    assert str(file) in str(caught.value)

"""Latency tables of other models and machines."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
from tables import contended

from headrace.errors import ArtefactError, HeadraceWarning
from headrace.serving.latency_table import LatencyTable
from headrace.serving.table_check import PARAMETERS, Identity, check_table

HERE = Identity("boat", "0123", 1000, 8, "EPYC, 2 cores", "cpu", "float32")


def make(**change: object) -> LatencyTable:
    about = {"model": "boat", "weights": "0123", "machine": HERE.machine, "device": "cpu", "dtype": "float32"}
    return contended().model_copy(update=about | {"figures": {PARAMETERS: 1000.0}} | change)


def test_the_own_table_is_taken_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_table(make(), HERE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "Xeon, 8 cores"}, "on machine 'Xeon, 8 cores', and this is 'EPYC, 2 cores'"),
        ({"device": "cuda"}, "on device 'cuda'"),
        ({"dtype": "float16"}, "on dtype 'float16', and this is 'float32'"),
        ({"weights": "4567", "model": "ship"}, r"other weights \('ship'\) in the same shapes"),
    ],
)
def test_what_may_not_hold_is_warned_of(change, words):
    with pytest.warns(HeadraceWarning, match=words) as caught:
        check_table(make(**change), HERE)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("change", "own", "words"),
    [
        ({"weights": "4567", "figures": {PARAMETERS: 999.0}}, {}, "with 999 parameters and not 1000"),
        ({"weights": "4567", "figures": {}, "model": "ship"}, {}, "on the model 'ship', not on 'boat'"),
        ({}, {"size_multiple": 96}, "512x512, and 'boat' makes multiples of 96"),
    ],
)
def test_other_shapes_are_refused(change, own, words):
    with pytest.raises(ArtefactError, match=words) as caught:
        check_table(make(**change), replace(HERE, **own))
    assert "headrace calibrate latency" in str(caught.value)


@pytest.mark.parametrize("empty", [{"sizes": []}, {"sizes": [{"grids": []}]}])
def test_an_empty_table_is_not_loaded(tmp_path, empty):
    content = make().model_dump()
    if empty["sizes"]:
        empty = {"sizes": [content["sizes"][0] | empty["sizes"][0]]}
    (tmp_path / "latency.json").write_text(json.dumps(content | empty))
    with pytest.raises(ArtefactError, match="at least 1 item"):
        LatencyTable.load(tmp_path / "latency.json")

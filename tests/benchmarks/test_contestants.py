import numpy as np
import pytest

from engine.fake_pipeline import FakePipeline
from headrace.benchmarks._contestants import Diffusers, engine_turns, pixel_difference, race
from headrace.benchmarks._mixed_load import mixed_load
from headrace.engine import Engine
from headrace.errors import HeadraceError, NumericalError
from headrace.request import Request


def test_all_contestants_make_the_same_pictures(tiny_model):
    model = tiny_model("sd1")
    engine, diffusers = Engine.from_pretrained(model), Diffusers(model, "cpu")
    load = [request.model_copy(update={"steps": 3}) for request in mixed_load(4, engine.pipeline)] * 2
    pictures = {name: {} for name in "abc"}
    turns = {
        "a": diffusers.one_by_one(load, pictures["a"]),
        "b": diffusers.grouped(load, pictures["b"]),
        "c": engine_turns(engine, load, pictures["c"]),
    }
    shown = []
    seconds = race(turns, "cpu", lambda name, share: shown.append((name, share)))
    assert set(seconds) == set("abc")
    assert min(seconds.values()) > 0
    for name in "abc":
        shares = [share for other, share in shown if other == name]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
        difference = pixel_difference(pictures[name], pictures["a"])
        assert difference["max_pixel_difference"] <= 3
        assert difference["pixel_share_within_1"] >= 0.999
    assert len(pictures["c"]) == 8


def test_the_one_that_is_least_far_goes_next():
    order = []

    def contestant(name, turns):
        for turn in range(turns):
            order.append(name)
            yield (turn + 1) / turns

    race({"slow": contestant("slow", 2), "fast": contestant("fast", 4)}, "cpu", lambda *_: None)
    assert order == ["slow", "fast", "fast", "slow", "fast", "fast"]


def test_an_error_of_a_request_stops_the_comparison():
    requests = [Request(prompt="fine", steps=2), Request(prompt="nan", steps=2)]
    with pytest.raises(NumericalError):
        list(engine_turns(Engine(FakePipeline()), requests, {}))


def test_pixel_difference_counts_levels():
    left = np.zeros((2, 2, 3), np.uint8)
    right = left.copy()
    right[0, 0] = 1
    right[1, 1, 0] = 255
    assert pixel_difference({0: left}, {0: right}) == {"max_pixel_difference": 255, "pixel_share_within_1": 11 / 12}
    with pytest.raises(HeadraceError):
        pixel_difference({0: left}, {})

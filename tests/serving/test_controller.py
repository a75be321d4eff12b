"""The feedback controller: skipping before chunking, bounds, rest under constant load, and the way back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ServingError
from headrace.serving.controller import Controller, Limits

LIMITS = Limits(tau_min=0.9, tau_max=1.0, chunks=2, max_chunks=8, low=0.25, high=1.0)
SLOTS = 16


def settled(requests, rounds=300):
    controller = Controller(LIMITS)
    for _ in range(rounds):
        controller.observe(requests, SLOTS)
    return controller


def test_an_empty_house_is_left_alone():
    for requests in (0, 1, 4):
        assert (settled(requests).tau, settled(requests).chunks) == (1.0, 2)


def test_skipping_is_raised_first_and_chunking_where_that_is_not_enough():
    taus = [settled(requests).tau for requests in range(0, 40)]
    chunks = [settled(requests).chunks for requests in range(0, 40)]
    assert taus == sorted(taus, reverse=True)
    assert chunks == sorted(chunks)
    assert (min(taus), max(chunks)) == (0.9, 8)
    assert all(count == 2 for tau, count in zip(taus, chunks, strict=True) if tau > 0.9 + 1e-12)
    assert len({round(tau, 6) for tau in taus}) > 8  # by degrees


@settings(max_examples=50)
@given(loads=st.lists(st.integers(0, 500), max_size=200))
def test_no_load_breaks_the_bounds(loads):
    controller = Controller(LIMITS)
    for requests in loads:
        controller.observe(requests, SLOTS)
        assert 0.9 <= controller.tau <= 1.0
        assert 2 <= controller.chunks <= 8


def test_what_was_raised_is_taken_back_as_the_queue_drains():
    controller = settled(60)
    taus = []
    for requests in [*range(60, 0, -1), *[1] * 60]:
        controller.observe(requests, SLOTS)
        taus.append(controller.tau)
    assert taus == sorted(taus)
    assert (controller.tau, controller.chunks) == (1.0, 2)


def test_a_pressure_that_turns_back_a_little_moves_nothing():
    controller = settled(12)
    before = controller.tau
    for round_ in range(300):
        controller.observe(12 - round_ % 2, SLOTS)
        assert controller.tau == before


def closed_loop(load, rounds=4000):
    """Requests arrive at a constant rate; a lower tau and more chunks serve up to 1.5 times as many."""
    controller, requests, seen = Controller(LIMITS), 4.0, []
    for _ in range(rounds):
        controller.observe(round(requests), SLOTS)
        capacity = 1 + 4 * (1.0 - controller.tau) + 0.1 * (controller.chunks - 2) / 6
        requests = max(0.0, requests + 0.2 * (load - capacity * min(1.0, requests / 4)))
        seen.append((controller.tau, requests))
    return seen


@pytest.mark.parametrize("load", [0.3, 0.8, 1.05, 1.1, 1.2, 1.3, 1.39])
def test_under_constant_load_it_comes_to_rest(load):
    late = closed_loop(load)[2000:]
    taus, queue = zip(*late, strict=True)
    assert max(taus) - min(taus) < 0.012  # a tenth of its range
    assert max(queue) - min(queue) < 4
    turns = sum((c - b) * (b - a) < 0 for a, b, c in zip(taus, taus[1:], taus[2:], strict=False))
    assert turns < 20


def test_more_load_than_can_be_served_is_met_with_everything():
    tau, _ = closed_loop(2.0)[-1]
    assert tau == 0.9


@pytest.mark.parametrize(
    "values",
    [
        {"tau_min": -0.1}, {"tau_min": 1.1}, {"tau_max": math.nan}, {"tau_min": 0.9, "tau_max": 0.8}, {"tau_min": "a"},
        {"chunks": 0}, {"chunks": 3, "max_chunks": 2}, {"low": -1.0}, {"low": 1.0, "high": 1.0}, {"high": math.inf},
        {"play": 1.0}, {"play": math.nan},
    ],
)  # fmt: skip
def test_limits_that_cannot_be_are_refused(values):
    with pytest.raises(ServingError, match=next(iter(values))):
        Limits(**values)

import math

import pytest

from headrace.training.learning_rate import learning_rate
from headrace.training.tables.loop import LoopTable


def loop(**values):
    return LoopTable.model_validate({"steps": 100, "batch_size": 1, "learning_rate": 0.1, "warmup_steps": 10, **values})


def test_it_rises_to_the_peak_and_falls_to_zero():
    assert learning_rate(loop(), 0, 0.0) == pytest.approx(0.01)
    assert learning_rate(loop(), 9, 0.0) == pytest.approx(0.1)
    assert learning_rate(loop(), 50, 0.5) == pytest.approx(0.05)
    assert learning_rate(loop(), 100, 1.0) == pytest.approx(0.0)


def test_the_floor_is_a_fraction_of_the_peak():
    assert learning_rate(loop(final_learning_rate=0.2, warmup_steps=0), 0, 1.0) == pytest.approx(0.02)


def test_time_beyond_the_end_does_not_raise_the_rate_again():
    assert learning_rate(loop(), 50, 1.7) == pytest.approx(0.0)


def test_one_cycle_is_half_a_cosine_to_the_last_bit():
    table = loop(final_learning_rate=0.2, cycle_decay=0.5)
    for step in range(101):
        half = 0.5 * (1 + math.cos(math.pi * (step / 100)))
        assert learning_rate(table, step, step / 100) == 0.1 * min(1.0, (step + 1) / 10) * (0.2 + (1 - 0.2) * half)


def test_the_rate_starts_again_in_each_cycle_from_a_lower_peak_and_without_a_warm_up():
    table = loop(steps=300, cycles=3, cycle_decay=0.8, warmup_steps=10, final_learning_rate=0.1)
    curve = [learning_rate(table, step, step / 300) for step in range(301)]
    assert curve[0] == pytest.approx(0.01)
    assert [curve[step] for step in (100, 200)] == pytest.approx([0.08, 0.064])
    assert [curve[step] for step in (50, 150, 250)] == pytest.approx([0.055, 0.044, 0.0352])
    assert [curve[step] for step in (99, 199, 300)] == pytest.approx([0.01, 0.008, 0.0064], rel=0.01)
    assert [step for step in range(11, 301) if curve[step] > curve[step - 1]] == [100, 200]

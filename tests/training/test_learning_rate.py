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

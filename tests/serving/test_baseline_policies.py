"""What the three baselines decide, round by round."""

from __future__ import annotations

from headrace.serving.policies.continuous import Continuous
from headrace.serving.policies.dynamic import Dynamic
from headrace.serving.policies.sequential import Sequential
from headrace.serving.state import Round, State, Task


def state(waiting=(), denoising=(), decoding=(), in_flight=(), now=0.0, slots=2):
    def tasks(numbers, row=0):
        return [Task(number, (512, 512), 0.1 * number, 4, row) for number in numbers]

    return State(now, tasks(waiting), tasks(denoising, 1), tasks(decoding, 4), frozenset(in_flight), slots)


def test_sequential_serves_one_after_another():
    policy = Sequential()
    assert policy.next(state(waiting=[1, 2])) == Round(admit=(1,), rows=(1,))
    assert policy.next(state(waiting=[2], denoising=[1])) == Round(rows=(1,))
    assert policy.next(state(waiting=[2], decoding=[1])) == Round(decode=(1,))
    assert policy.next(state(waiting=[2], decoding=[1], in_flight=[1])).idle
    assert policy.next(state()) == Round()


def test_dynamic_collects_for_its_window_or_until_it_is_full():
    policy = Dynamic(window_s=0.5)
    assert policy.next(state(waiting=[1], now=0.1)) == Round(wait_until=0.6)
    assert policy.next(state(waiting=[1], now=0.6)) == Round(admit=(1,), rows=(1,))
    assert policy.next(state(waiting=[1, 2, 3], now=0.3)) == Round(admit=(1, 2), rows=(1, 2))


def test_dynamic_releases_a_batch_together():
    policy = Dynamic()
    assert policy.next(state(waiting=[3], denoising=[2], decoding=[1], now=9)) == Round(rows=(2,))
    assert policy.next(state(waiting=[3], decoding=[1, 2], now=9)) == Round(decode=(1, 2))
    assert policy.next(state(waiting=[3], decoding=[1, 2], in_flight=[1, 2], now=9)).idle


def test_continuous_runs_everything_there_is():
    policy = Continuous()
    everything = policy.next(state(waiting=[4, 5], denoising=[3], decoding=[1, 2], in_flight=[1], slots=4))
    assert everything == Round(admit=(4,), rows=(3, 4), decode=(2,))
    assert policy.next(state(waiting=[4], denoising=[1, 2])) == Round(rows=(1, 2))

import threading
import time
from concurrent.futures import CancelledError, wait

import numpy as np
import pytest
from fake_policies import Greedy

from engine.fake_pipeline import FakePipeline
from headrace.engine import Engine, EngineSettings
from headrace.errors import CapacityError, HeadraceError, NumericalError, RequestError, ServingError
from headrace.plan import Plan
from headrace.request import Request
from headrace.serving.loop import Loop
from headrace.serving.policies.sequential import Sequential
from headrace.serving.state import Round
from headrace.techniques.guidance.schedule import skip

PATIENCE_S = 30  # for what takes milliseconds


class Clock:
    """Moves on when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def asked(count, steps=3):
    return [Request(prompt="apple"[: 2 + i % 3], steps=steps + i % 3, solver="ddim", seed=i) for i in range(count)]


def engine(**options):
    return Engine(FakePipeline(), EngineSettings(**options))


def turns(loop, clock=None, most=200):
    """Drives a loop that has no thread until only an arrival would change anything."""
    for _ in range(most):
        until = loop.turn()
        if clock is not None:
            clock.now += 1
        if until == float("inf"):
            return
    raise AssertionError("the loop did not come to an end")


def same(result, reference):
    assert result.error is None
    return np.abs(result.pixels.astype(int) - reference.pixels.astype(int)).max() <= 1


@pytest.mark.parametrize("lane", ["interleaved", "threads"])
@pytest.mark.parametrize("policy", [Sequential(), Greedy(), Greedy(chunks=3)])
def test_requests_of_many_threads_come_out_as_from_generate(lane, policy):
    requests = asked(6)
    expected = engine().generate(requests)
    futures = {}
    with Loop(engine(slots=3, lane=lane, encode_ahead=True), policy) as loop:

        def submit(index):
            futures[index] = loop.submit(requests[index])

        threads = [threading.Thread(target=submit, args=(index,)) for index in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        served = [futures[index].result(PATIENCE_S) for index in range(6)]
    for one, reference in zip(served, expected, strict=True):
        assert same(one.result, reference)
        assert one.arrived <= one.started <= one.denoised <= one.finished


def test_moments_priority_and_deadline_are_on_record():
    clock = Clock()
    loop = Loop(engine(), Sequential(), clock)
    first = loop.submit(asked(1)[0], priority=2, deadline=50.0)
    second = loop.submit(asked(1)[0])
    clock.now = 5.0
    turns(loop, clock)
    one, two = first.result(0), second.result(0)
    assert (one.arrived, one.started, one.denoised, one.finished) == (0, 5, 7, 8)  # a row, a row, a row, a decoding
    assert (one.task.priority, one.task.deadline) == (2, 50.0)
    assert (two.arrived, two.started, two.finished) == (0, 9, 12)


def test_a_policy_sees_every_task_as_it_is():
    clock, seen = Clock(), []

    class Watching(Greedy):
        def next(self, state):
            seen.append(state)
            return super().next(state)

    loop = Loop(engine(slots=1), Watching(chunks=2), clock)
    loop.submit(asked(1)[0], priority=1)
    clock.now = 1.0
    loop.submit(asked(1)[0].model_copy(update={"guidance_scale": 1.0, "height": 24}), deadline=9.0)
    turns(loop, clock)
    start = seen[0]
    assert [(task.size, task.arrived, task.rows, task.guided, task.priority) for task in start.waiting] == [
        ((16, 16), 0.0, 3, True, 1),
        ((24, 16), 1.0, 3, False, 0),
    ]
    assert (start.now, start.slots, start.denoising, start.decoding) == (1.0, 1, [], [])
    assert [task.row for state in seen for task in state.denoising] == [1, 2, 1, 2]
    assert [(task.chunk, task.chunks) for state in seen for task in state.decoding] == [(0, 0), (1, 2)] * 2


def test_what_is_expected_after_a_round_is_what_is_there_then():
    expectations, found = [], []

    class Comparing(Greedy):
        def next(self, state):
            found.append(state)
            return super().next(state)

        def prepare(self, state):
            expectations.append(state)

    clock = Clock()
    loop = Loop(engine(slots=3), Comparing(chunks=2), clock)
    for request in asked(7):
        loop.submit(request)
    turns(loop)
    for before, after in zip(expectations, found[1:], strict=False):
        assert (before.waiting, before.denoising, before.decoding) == (after.waiting, after.denoising, after.decoding)
        assert before.in_flight == after.in_flight == frozenset()


def test_the_next_round_is_planned_while_this_one_runs():
    pipeline = FakePipeline()
    planning, checked = threading.Event(), []

    class Ahead(Sequential):
        def prepare(self, state):
            planning.set()

        def next(self, state):
            planning.clear()
            return super().next(state)

    evaluate = pipeline.evaluate

    def slowly(rows):
        checked.append(planning.wait(PATIENCE_S))  # the round goes on only when planning has begun
        return evaluate(rows)

    pipeline.evaluate = slowly
    loop = Loop(Engine(pipeline), Ahead())
    loop.submit(asked(1)[0])
    turns(loop)
    assert checked == [True] * 3


def test_skips_are_written_into_the_plan_and_told_to_the_policy():
    served_tasks = []

    class Watching(Greedy):
        def next(self, state):
            served_tasks.extend(state.decoding)
            return super().next(state)

    loop = Loop(engine(), Watching(skip=True))
    request = asked(1, steps=4)[0]
    future = loop.submit(request)
    turns(loop)
    served = future.result(0)
    plan = skip(engine().plan(request), [2, 3])
    assert served.result.plan == plan
    assert served.result.settings["unguided_rows"] == [2, 3]
    assert (served.task.skips, served.task.first_skip) == (2, 0.5)
    assert (served_tasks[0].skips, served_tasks[0].first_skip) == (2, 0.5)
    reference = engine()
    reference.submit(request, plan)
    while reference.busy:
        reference.step()
    assert (reference.collect()[0].pixels == served.result.pixels).all()


def test_a_row_that_later_rows_reuse_is_not_skipped():
    class Cached(FakePipeline):
        @property
        def columns(self):
            return frozenset({"compute"})

    own = Engine(Cached())
    request = asked(1, steps=4)[0]
    plan = own.plan(request).with_columns(compute=np.array([[1], [1], [1], [0]], bool))
    loop = Loop(own, Greedy(skip=True))
    future = loop.submit(request, plan=plan)
    turns(loop)
    served = future.result(0)
    assert served.result.settings["unguided_rows"] == [3]  # row 2 is computed for both branches, as row 3 may need
    assert served.task.skips == 1


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Request(), RequestError),
        (Request(prompt="a", height=20), RequestError),
        (Request(prompt="a", height=512), CapacityError),
    ],
)
def test_a_bad_request_raises_when_submitted(request_, error):
    loop = Loop(engine(slots=1), Sequential())
    with pytest.raises(error):
        loop.submit(request_)
    with pytest.raises(ServingError, match="deadline is nan"):
        loop.submit(asked(1)[0], deadline=float("nan"))
    assert loop.turn() == float("inf")


def test_a_request_that_fails_fails_alone():
    loop = Loop(engine(), Greedy())
    futures = [loop.submit(request) for request in (asked(2)[0], Request(prompt="nan", steps=3), asked(2)[1])]
    turns(loop)
    errors = [future.result(0).result.error for future in futures]
    assert isinstance(errors[1], NumericalError)
    assert errors[0] is errors[2] is None
    assert futures[1].result(0).finished >= futures[1].result(0).arrived


class Broken(Sequential):
    name = "broken"

    def __init__(self, answer):
        self._answer = answer

    def next(self, state):
        return self._answer(state)


def failing(_):
    raise KeyError("tau")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (failing, "tau"),
        (lambda state: Round(), "leaves 2 requests without a round"),
        (lambda state: Round(wait_until=state.now - 1), "not after"),
        (lambda state: Round(decode=(state.waiting[0].number,)), "rows left"),
    ],
)
def test_a_failing_policy_fails_the_futures(answer, message):
    loop = Loop(engine(), Broken(answer))
    futures = [loop.submit(request) for request in asked(2)]
    loop.start()
    for future in futures:
        with pytest.raises(ServingError, match=f"(?s)'broken' failed.*{message}"):
            future.result(PATIENCE_S)
    with pytest.raises(ServingError, match=message):
        loop.submit(asked(1)[0])
    loop.stop()


def test_a_failing_round_and_a_failing_plan_ahead_fail_the_futures():
    class BadAhead(Sequential):
        def prepare(self, state):
            raise ArithmeticError("no plan")

    broken = FakePipeline()
    broken.before_encoding = lambda requests: (_ for _ in ()).throw(SystemError("gone"))
    own = Engine(broken)
    own.step = lambda order: (_ for _ in ()).throw(SystemError("gone"))
    for loop, message in ((Loop(own, Sequential()), "gone"), (Loop(engine(), BadAhead()), "no plan")):
        with loop:
            future = loop.submit(asked(1)[0])
            with pytest.raises(ServingError, match=message):
                future.result(PATIENCE_S)


def test_a_policy_may_wait_for_more():
    clock, looked = Clock(), []

    class Window(Sequential):
        def next(self, state):
            looked.append(state.now)
            if state.now < 3.5:
                return Round(wait_until=3.5)
            return super().next(state)

    loop = Loop(engine(), Window(), clock)
    future = loop.submit(asked(1)[0])
    assert loop.turn() == 3.5
    clock.now = 4.0
    assert loop.turn() is None
    assert looked == [0.0, 4.0]
    turns(loop)
    assert future.result(0).started == 4.0


def test_an_arrival_ends_the_waiting():
    class Patient(Sequential):
        def next(self, state):
            alone = len(state.waiting) == 1 and not (state.denoising or state.decoding)
            return Round(wait_until=state.now + 1e6) if alone else super().next(state)

    with Loop(engine(), Patient()) as loop:
        first = loop.submit(asked(1)[0])
        time.sleep(0.02)
        assert not first.done()
        second = loop.submit(asked(1)[0])
        assert first.result(PATIENCE_S).result.error is None
        second.cancel()


def test_draining_finishes_what_is_there_and_takes_no_more():
    loop = Loop(engine(slots=2), Greedy())
    futures = [loop.submit(request) for request in asked(5)]
    loop.start()
    loop.stop()
    assert all(future.result(0).result.error is None for future in futures)
    with pytest.raises(ServingError, match="stopped"):
        loop.submit(asked(1)[0])


def test_stopping_without_draining_fails_what_is_left():
    pipeline = FakePipeline()
    begun, go_on = threading.Event(), threading.Event()

    def hold(position):
        begun.set()
        go_on.wait(PATIENCE_S)

    pipeline.before_chunk = hold
    own = Engine(pipeline)
    loop = Loop(own, Sequential())
    loop.start()
    futures = [loop.submit(request) for request in asked(3)]
    assert begun.wait(PATIENCE_S)
    threading.Timer(0.05, go_on.set).start()
    loop.stop(drain=False)
    done, left = wait(futures, 0)
    assert (len(done), left) == (3, set())
    for future in futures[1:]:
        with pytest.raises(ServingError, match="stopped before"):
            future.result(0)
    assert not own.busy


def test_a_cancelled_future_is_dropped_from_the_engine():
    own = engine(slots=1)
    loop = Loop(own, Greedy())
    first, second, third = (loop.submit(request) for request in asked(3))
    loop.turn()
    assert first.cancel()
    assert second.cancel()
    turns(loop)
    assert third.result(0).result.error is None
    with pytest.raises(CancelledError):
        first.result(0)
    assert not own.busy


def test_chunks_in_flight_are_waited_for_without_turning_round_and_round():
    pipeline = FakePipeline()
    go_on = threading.Event()
    pipeline.before_chunk = lambda position: go_on.wait(PATIENCE_S)
    states = []

    class Watching(Greedy):
        def next(self, state):
            states.append(state)
            return super().next(state)

    own = Engine(pipeline, EngineSettings(lane="threads"))
    loop = Loop(own, Watching())
    short, long = loop.submit(asked(1, 2)[0]), loop.submit(asked(1, 4)[0])
    for _ in range(4):
        assert loop.turn() is None
    assert own.in_flight == {short_number(states)}  # the long one's rows went on beside it
    assert [task.row for task in states[-1].denoising] == [3]
    go_on.set()
    turns(loop, most=100_000)
    assert short.result(0).result.error is long.result(0).result.error is None
    own.close()


def short_number(states):
    return states[0].waiting[0].number


def test_every_round_is_told_of():
    told = []
    loop = Loop(engine(), Greedy(chunks=2), watch=lambda state, decided, report: told.append((decided, report)))
    loop.submit(asked(1, 2)[0])
    turns(loop)
    assert [(report.rows, report.chunks, report.finished) for _, report in told] == [
        (1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 1, 1),
    ]  # fmt: skip


def test_an_engine_in_use_is_refused():
    own = engine()
    own.submit(asked(1)[0])
    with pytest.raises(ServingError, match="idle"):
        Loop(own, Sequential())


def test_the_engine_is_the_loop_s_alone_until_it_stops():
    own = engine()
    with Loop(own, Sequential()), pytest.raises(HeadraceError, match="on_result"):
        own.generate(asked(1))
    assert own.generate(asked(1))[0].error is None


def test_a_plan_of_the_caller_s_is_gone_by():
    own = engine()
    request = asked(1)[0]
    plan: Plan = own.plan(request).with_columns(guidance=1.0)
    loop = Loop(own, Sequential())
    future = loop.submit(request, plan=plan)
    turns(loop)
    assert own.pipeline.calls == [1, 1, 1]
    assert future.result(0).result.plan == plan

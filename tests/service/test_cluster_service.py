"""Wishes in a cluster: routed, resubmitted, refused, cancelled, told once."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from fake_replicas import Ear, FakeEngine, FakeFleet, until, wish

from headrace.errors import (
    BusyError,
    DeadlineError,
    ModelError,
    NotReadyError,
    PoisonError,
    RequestError,
    ServiceError,
    StoppingError,
)
from headrace.service import Failed, Finished
from headrace.service.cluster import ClusterService


@contextmanager
def cluster(engines, ready=True, **limits):
    fleet = FakeFleet(engines)
    service = ClusterService(fleet, look_s=0.05, **limits)
    service.start(10 if ready else None)
    if ready:
        until(lambda: service.status().replicas == len(engines))
    try:
        yield service, fleet
    finally:
        service.stop()


def submit(service, one):
    ear = Ear()
    return service.submit(one, ear), ear


def test_a_wish_is_done_by_the_replica_that_should_be_done_first():
    slow, fast = FakeEngine(), FakeEngine()
    slow.clear_s = 30.0
    with cluster({"slow": slow, "fast": fast}) as (service, _):
        ears = [submit(service, wish(seed))[1] for seed in range(4)]
        for seed, ear in enumerate(ears):
            done = ear.wait()
            assert ear.kinds == ["Accepted", "Finished"]
            assert done.ticket == ear.heard[0].ticket
            assert (done.pictures[0] == seed).all()
    assert len(fast.seen) == 4
    assert not slow.seen


def test_what_was_just_sent_counts_before_any_report_of_it():
    engines = {name: FakeEngine(hold=True) for name in "abc"}
    with cluster(engines) as (service, _):
        for seed in range(9):
            submit(service, wish(seed))
        until(lambda: sum(len(one.here) for one in engines.values()) == 9)
        assert [len(one.here) for one in engines.values()] == [3, 3, 3]


def test_the_wishes_of_a_lost_replica_are_done_by_another_and_nothing_is_heard_twice():
    dying, other = FakeEngine(hold=True), FakeEngine(hold=True)
    with cluster({"dying": dying, "other": other}) as (service, fleet):
        ears = [submit(service, wish(seed, previews=2))[1] for seed in range(6)]
        until(lambda: len(dying.here) == 3 and len(other.here) == 3)
        for engine in (dying, other):
            engine.show(0)
        until(lambda: all(ear.kinds == ["Accepted", "Preview"] for ear in ears))
        fleet.kill("dying")
        until(lambda: len(other.here) == 6)
        other.show(0)
        other.show(1)
        other.finish()
        for seed, ear in enumerate(ears):
            assert (ear.wait().pictures[0] == seed).all()
            assert ear.kinds == ["Accepted", "Preview", "Preview", "Finished"]
            assert [one.index for one in ear.heard[1:3]] == [0, 1]
        status = service.status()
        assert (status.accepted, status.finished, status.failed) == (6, 6, 0)
        assert status.restarts == 3  # each engine's own one, and the replica
        assert sorted(ear.heard[-1].timing.attempts for ear in ears) == [1, 1, 1, 2, 2, 2]


def test_with_every_replica_lost_wishes_wait_for_the_next_one():
    first = FakeEngine(hold=True)
    with cluster({"first": first}) as (service, fleet):
        _, ear = submit(service, wish(7))
        until(lambda: first.here)
        fleet.kill("first")
        until(lambda: service.status().state == "restarting")
        _, later = submit(service, wish(8))
        assert service.status().load.waiting == 2
        fleet.add("second", FakeEngine())
        assert (ear.wait().pictures[0] == 7).all()
        assert isinstance(later.wait(), Finished)
        assert ear.kinds == ["Accepted", "Finished"]


def test_a_replica_that_goes_as_it_is_one_too_many_finishes_what_it_has():
    going, staying = FakeEngine(hold=True), FakeEngine(hold=True)
    with cluster({"going": going, "staying": staying}) as (service, fleet):
        ears = [submit(service, wish(seed))[1] for seed in range(2)]
        until(lambda: going.here and staying.here)
        fleet.retire("going")
        until(lambda: service.status().replicas == 1)
        ears += [submit(service, wish(seed))[1] for seed in range(2)]
        until(lambda: len(staying.here) == 3)
        going.finish()
        staying.finish()
        assert all(isinstance(ear.wait(), Finished) for ear in ears)
        assert len(going.seen) == 1
        assert service.status().restarts == 2  # of the engines: no replica was lost


def test_a_wish_that_is_there_whenever_replicas_are_lost_fails_alone():
    with cluster({"r0": FakeEngine(hold=True)}) as (service, fleet):
        _, ear = submit(service, wish())
        for number in range(4):
            until(lambda number=number: fleet.engines[f"r{number}"].here)
            fleet.add(f"r{number + 1}", FakeEngine(hold=True))
            fleet.kill(f"r{number}")
        assert isinstance(ear.wait().error, PoisonError)
        assert service.status().poisoned == 1


def test_an_engine_that_gives_up_passes_its_wishes_on():
    giving_up, other = FakeEngine(hold=True), FakeEngine()
    other.clear_s = 5.0
    with cluster({"a": giving_up, "b": other}) as (service, _):
        _, ear = submit(service, wish(3))
        until(lambda: giving_up.here)
        giving_up.fail(ServiceError("it does not start any more"))
        assert isinstance(ear.wait(), Finished)
        assert ear.kinds == ["Accepted", "Finished"]


def test_failures_of_the_wish_itself_are_not_tried_elsewhere():
    engines = {name: FakeEngine(hold=True) for name in "ab"}
    with cluster(engines) as (service, _):
        _, ear = submit(service, wish())
        until(lambda: engines["a"].here)
        engines["a"].fail(PoisonError("it crashed twice"))
        assert isinstance(ear.wait().error, PoisonError)
        assert not engines["b"].seen


def test_a_replica_that_is_full_is_passed_over_and_only_all_of_them_refuse():
    full, free = FakeEngine(), FakeEngine()
    free.clear_s = 3.0
    full.refuse = BusyError("full", 7.0)
    with cluster({"full": full, "free": free}) as (service, _):
        assert isinstance(submit(service, wish())[1].wait(), Finished)
        free.refuse = BusyError("full too", 4.0)
        _, ear = submit(service, wish())
        error = ear.wait().error
        assert isinstance(error, BusyError)
        assert error.retry_after_s == 4.0
        assert ear.kinds == ["Failed"]


def test_an_accepted_wish_is_not_refused_after_its_replica_is_lost():
    dying, full = FakeEngine(hold=True), FakeEngine()
    full.clear_s = 3.0
    with cluster({"dying": dying, "full": full}) as (service, fleet):
        _, ear = submit(service, wish(timeout_s=50.0))
        until(lambda: dying.here)
        full.refuse = BusyError("full", 4.0)
        fleet.kill("dying")
        time.sleep(0.1)
        assert ear.kinds == ["Accepted"]
        full.refuse = None
        assert isinstance(ear.wait(), Finished)
        assert 0 < full.seen[0].timeout_s < 50.0  # what is left of its time


def test_what_can_be_known_without_a_call_is_refused_at_once():
    busy = FakeEngine(hold=True)
    busy.clear_s = 20.0
    with cluster({"only": busy}, queue=2, max_wait_s=100.0) as (service, _):
        with pytest.raises(RequestError) as raised:
            service.submit(wish(acceleration="unknown"), Ear())
        assert raised.value.field == "acceleration"
        with pytest.raises(DeadlineError) as late:
            service.submit(wish(timeout_s=5.0), Ear())
        assert late.value.expected_s == pytest.approx(20, abs=1)
        for seed in range(2):
            submit(service, wish(seed))
        with pytest.raises(BusyError, match="2 wishes are held") as full:
            service.submit(wish(), Ear())
        assert full.value.retry_after_s >= 1
        assert service.status().accepted <= 2


def test_a_queue_that_is_longer_than_anyone_waits_refuses_until_it_is_shorter():
    busy = FakeEngine()
    busy.clear_s = 150.0
    with cluster({"only": busy}, max_wait_s=100.0) as (service, _), pytest.raises(BusyError) as full:
        service.submit(wish(), Ear())
    assert full.value.retry_after_s == pytest.approx(50, abs=2)


def test_a_deadline_is_kept_by_the_cluster_where_no_replica_answers():
    with cluster({"hung": FakeEngine(hold=True)}) as (service, _):
        _, ear = submit(service, wish(timeout_s=0.2))
        assert isinstance(ear.wait().error, DeadlineError)
        assert service.status().load.waiting == 0


def test_a_cancelled_wish_is_dropped_by_its_replica_and_hears_nothing_more():
    engine = FakeEngine(hold=True)
    with cluster({"only": engine}) as (service, _):
        ticket, ear = submit(service, wish())
        until(lambda: engine.here)
        assert service.cancel(ticket)
        until(lambda: engine.dropped)
        assert not service.cancel(ticket)
        assert ear.kinds == ["Accepted"]
        assert service.status().cancelled == 1


def test_rounds_of_all_replicas_are_told_under_their_numbers_with_the_clusters_tickets():
    engines = {name: FakeEngine(hold=True) for name in "ab"}
    with cluster(engines) as (service, fleet):
        tickets = {submit(service, wish(seed))[0] for seed in range(2)}
        until(lambda: engines["a"].here and engines["b"].here)
        told = []
        leave = service.watch(told.append)
        for engine in engines.values():
            engine.turn()
        until(lambda: len(told) == 2)
        assert {one.replica for one in told} == {0, 1}
        assert {row.ticket for one in told for row in one.rows} == tickets
        assert all(abs(one.at - time.monotonic()) < 5 for one in told)
        fleet.kill("a")
        until(lambda: len(engines["b"].here) == 2)
        fleet.add("c", FakeEngine())
        until(lambda: service.status().replicas == 2)
        fleet.engines["c"].turn()
        until(lambda: len(told) == 3)
        assert told[-1].replica == told[0].replica  # the new one has the place of the lost one
        leave()
        engines["b"].turn()
        time.sleep(0.1)
        assert len(told) == 3


def test_the_status_is_the_sum_of_all():
    engines = {name: FakeEngine(hold=True) for name in "ab"}
    engines["b"].clear_s = 4.0
    with cluster(engines) as (service, _):
        for seed in range(3):
            submit(service, wish(seed))
        until(lambda: service.status().load.denoising == 3)
        status = service.status()
        assert status.replicas == 2
        assert (status.memory_bytes, status.max_rows, status.policy, status.state) == (200, 32, "fake", "ready")
        assert status.load.rows == 30
        assert status.load.clear_s == pytest.approx(4, abs=0.6)


def test_it_is_ready_with_its_first_replica_and_not_before():
    loading = FakeEngine()
    loading.state = "starting"
    with cluster({"a": loading}, ready=False) as (service, fleet):
        fleet.started.wait(5)
        with pytest.raises(NotReadyError):
            service.submit(wish(), Ear())
        assert service.status().state == "starting"
        with pytest.raises(ServiceError, match=r"no replica was ready within 0\.3 s"):
            service.start(0.3)
        loading.state = "ready"
        service.start(5)
        assert service.model.name == "tiny"


def test_a_model_that_no_replica_can_load_is_an_error_of_the_start():
    broken = {name: FakeEngine(error=ModelError("there is no such model", "Give another")) for name in "ab"}
    fleet = FakeFleet(broken)
    service = ClusterService(fleet)
    with pytest.raises(ModelError, match="no such model"):
        service.start(10)
    assert service.status().state == "failed"
    assert "no such model" in service.status().problem
    assert fleet.ended.wait(5)
    service.stop()


def test_draining_finishes_what_is_there_and_takes_nothing_more():
    engine = FakeEngine(hold=True)
    with cluster({"only": engine}) as (service, fleet):
        _, ear = submit(service, wish())
        until(lambda: engine.here)
        threading.Timer(0.1, engine.finish).start()
        assert service.stop(10)
        assert isinstance(ear.wait(), Finished)
        with pytest.raises(StoppingError):
            service.submit(wish(), Ear())
        assert fleet.ended.is_set()
        assert service.status().state == "stopped"


def test_what_is_not_done_when_draining_is_over_fails_as_stopped():
    engine = FakeEngine(hold=True)
    with cluster({"only": engine}) as (service, _):
        _, ear = submit(service, wish())
        until(lambda: engine.here)
        assert not service.stop(0.1)
        assert isinstance(ear.wait(), Failed)
        assert isinstance(ear.heard[-1].error, StoppingError)


def test_pictures_are_the_same_whichever_replica_made_them():
    with cluster({name: FakeEngine() for name in "abc"}) as (service, _):
        pictures = [submit(service, wish(5))[1].wait().pictures[0] for _ in range(6)]
        assert all(np.array_equal(pictures[0], one) for one in pictures)

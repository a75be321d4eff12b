"""Forecasts, scaling, settings and one replica, without a cluster around them."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from fake_replicas import CARD, FakeEngine, wish

from headrace.errors import BusyError, ModelError, ServiceError
from headrace.request import Request
from headrace.service import Accepted, Failed, Finished, Load, Preview, Status, Timing, Wish
from headrace.service.cluster import ClusterSettings, Order, Replica, Report, read_autoscale
from headrace.service.cluster.claim import Claim
from headrace.service.cluster.forecast import STALE_S, Standing, choose, completion_s, rows_of
from headrace.service.cluster.ray_local import join
from headrace.service.cluster.roster import Roster
from headrace.service.cluster.scaling import CLEAR, ClearTimePolicy, wanted_replicas

NOW = 1000.0


def standing(number, clear_s=0.0, row_s=0.0, state="ready", sent=None, orders=(), heard=NOW):
    status = Status(state, Load(clear_s=clear_s))
    report = Report(f"r{number}", 0.0, status, CARD, frozenset(orders), row_s)
    return Standing(f"r{number}", number, report, heard, dict(sent or {}))


def chosen(*standings, rows=10.0, barred=()):
    best = choose(standings, rows, NOW, barred)
    return best and best[0].number


def test_the_replica_that_is_done_first_is_chosen():
    assert chosen(standing(0, 5.0), standing(1, 2.0), standing(2, 3.0)) == 1


def test_a_report_ages():
    # five seconds of work as told four seconds ago are one second now
    assert chosen(standing(0, 5.0, heard=NOW - 4), standing(1, 2.0)) == 0


def test_what_was_sent_since_the_report_counts_by_its_rows():
    behind = standing(0, 1.0, 0.1, sent={"a": 20.0, "b": 30.0}, orders={"a"})
    assert completion_s(behind, 10.0, NOW, 0.0) == pytest.approx(1 + 30 * 0.1 + 10 * 0.1)
    assert chosen(behind, standing(1, 3.0, 0.1)) == 1


def test_a_faster_replica_is_given_more():
    slow, fast = standing(0, 1.0, row_s=0.5), standing(1, 2.0, row_s=0.01)
    assert chosen(slow, fast, rows=1.0) == 0
    assert chosen(slow, fast, rows=100.0) == 1


def test_a_new_replica_is_taken_to_be_as_fast_as_the_others():
    new, known = standing(0, sent={"a": 50.0}), standing(1, 1.0, row_s=0.1)
    assert chosen(new, known) == 1  # 5 s of what was sent, against 1 s


def test_before_anything_ran_the_one_with_the_fewest_orders_is_chosen():
    assert chosen(standing(0, sent={"a": 1.0}), standing(1)) == 1
    assert chosen(standing(1), standing(0)) == 0


def test_silent_failed_and_barred_replicas_are_given_nothing():
    silent = standing(0, heard=NOW - STALE_S - 1)
    others = [standing(1, state="starting"), standing(2, state="failed"), standing(3, state="draining")]
    assert chosen(silent, *others, Standing("r4", 4)) is None
    assert chosen(silent, standing(5), barred={"r5"}) is None


def test_a_replica_whose_engine_is_replaced_comes_last_and_keeps_what_it_is_given():
    mending = standing(0, 0.0, state="restarting")
    assert chosen(mending, standing(1, 60.0)) == 1
    assert chosen(mending) == 0


def test_rows_of_a_wish_grow_with_steps_and_pixels():
    assert rows_of(wish(steps=12), CARD) == 12
    assert rows_of(Wish(Request(steps=12, height=16, width=32)), CARD) == 12 * 8


def test_clocks_of_other_machines_are_brought_to_this_one():
    one = Standing("r0", 0)
    for seems, heard in ((900.3, NOW), (900.1, NOW + 1), (900.2, NOW + 2)):
        one.heard_of(Report("r0", heard - seems, Status("ready")), heard)
    assert one.offset == pytest.approx(900.1)
    claim = Claim("w1", wish(), print, NOW, 10.0)
    done = claim.hears(Finished("w1", (), Timing(99.0, 100.5, 101.0, 102.0, 2)), one.offset)
    assert done.timing == Timing(NOW, NOW + 0.6, pytest.approx(NOW + 1.1), pytest.approx(NOW + 2.1), 2)


def test_a_claim_tells_nothing_twice():
    claim = Claim("w1", wish(), print, NOW, 10.0)
    assert claim.hears(Accepted("w1", 19, 1.0), 0.0)
    assert claim.hears(Accepted("w1", 19, 1.0), 0.0) is None
    assert claim.rows == 19
    assert claim.hears(Preview("w1", 0, 5, 19, None), 0.0)
    assert claim.hears(Preview("w1", 0, 5, 19, None), 0.0) is None
    assert claim.hears(Preview("w1", 1, 9, 19, None), 0.0)


def test_what_is_left_of_a_deadline_goes_with_a_wish():
    claim = Claim("w1", wish(timeout_s=10.0), print, NOW, 10.0)
    assert claim.wish_now(NOW + 4).timeout_s == pytest.approx(6)
    claim.patient = True
    assert claim.wish_now(NOW + 4).timeout_s is None
    assert Claim("w2", wish(), print, NOW, 1.0).wish_now(NOW + 4).timeout_s is None


def test_a_new_replica_takes_the_place_of_a_lost_one():
    roster = Roster()
    assert [roster.add(name).number for name in "abc"] == [0, 1, 2]
    roster.remove("b", lost=True)
    assert roster.add("d").number == 1
    assert roster.lost == 1
    assert roster.state(begun=True) == "restarting"
    assert roster.state(begun=False) == "starting"


@pytest.mark.parametrize(
    ("clear_s", "running", "wanted"),
    [
        ([], 1, 1),
        ([0.0, 0.0], 2, 1),
        ([9.0], 1, 1),
        ([11.0], 1, 2),
        ([30.0, 30.0], 2, 6),
        ([60.0, 0.0], 2, 6),  # a new one, that has nothing yet, changes nothing
        ([6.0, 6.0], 2, 2),
        ([4.0, 4.0], 2, 2),  # one would do, but only just
        ([2.0, 2.0], 2, 1),
        ([float("nan"), float("inf"), 15.0], 3, 3),
        ([-5.0], 1, 1),
    ],
)
def test_as_many_replicas_as_have_the_work_done_in_time(clear_s, running, wanted):
    assert wanted_replicas(clear_s, running, target_s=10.0) == wanted


def test_the_number_of_replicas_does_not_swing():
    """What is enough for one replica fewer stays enough once it is gone."""
    for work in range(1, 200):
        for running in range(1, 12):
            fewer = wanted_replicas([work / running] * running, running, 10.0)
            if fewer < running:
                assert wanted_replicas([work / fewer] * fewer, fewer, 10.0) <= running
                assert wanted_replicas([work * 1.5 / fewer] * fewer, fewer, 10.0) <= fewer


def test_ray_serves_autoscaler_is_answered():
    metrics = {CLEAR: {"a": 25.0, "b": 1.0}, "other": {"a": 1e9}}
    context = SimpleNamespace(current_num_replicas=2, aggregated_metrics=metrics)
    assert ClearTimePolicy(target_s=10.0)(context) == (3, {})
    nothing = SimpleNamespace(current_num_replicas=1, aggregated_metrics=None)
    assert ClearTimePolicy(target_s=10.0)(nothing) == (1, {})


@pytest.mark.parametrize(
    "wrong",
    [{"replicas": 0}, {"autoscale": (0, 2)}, {"autoscale": (3, 2)}, {"replicas": 2, "autoscale": (1, 2)},
     {"clear_target_s": 0.0}],
)  # fmt: skip
def test_settings_that_fit_nothing_are_refused(wrong):
    with pytest.raises(ServiceError):
        ClusterSettings(**wrong)


def test_ranges_of_replicas_are_read():
    assert read_autoscale("1:4") == (1, 4)
    for wrong in ("4", "1:", ":4", "a:b", "1:-4", "1:4:5"):
        with pytest.raises(ServiceError, match="MIN:MAX"):
            read_autoscale(wrong)


async def _all(stream):
    return [said async for said in stream]


def test_a_replica_says_what_becomes_of_an_order_under_its_ticket():
    engine = FakeEngine()
    said = asyncio.run(_all(Replica("r0", engine).make(Order("w7", wish(3)))))
    assert [type(one.event).__name__ for one in said] == ["Accepted", "Finished"]
    assert {one.event.ticket for one in said} == {"w7"}
    assert not any(one.refused for one in said)


def test_a_replica_says_why_it_refuses():
    engine = FakeEngine()
    engine.refuse = BusyError("full", 3.0)
    (said,) = asyncio.run(_all(Replica("r0", engine).make(Order("w7", wish()))))
    assert said.refused
    assert isinstance(said.event, Failed)
    assert said.event.error is engine.refuse


def test_a_replica_drops_an_order_that_nobody_listens_to():
    engine = FakeEngine(hold=True)
    replica = Replica("r0", engine)

    async def leave():
        stream = replica.make(Order("w7", wish()))
        await anext(stream)
        assert (await replica.report(0)).orders == {"w7"}
        await stream.aclose()
        assert (await replica.report(0)).orders == frozenset()

    asyncio.run(leave())
    assert engine.dropped == ["own0"]


def test_a_replica_reports_each_round_once_and_at_once():
    engine = FakeEngine(hold=True)
    replica = Replica("r0", engine)

    async def follow():
        stream = replica.make(Order("w7", wish()))
        await anext(stream)
        engine.turn()
        first = await replica.report(0, 5.0)
        asyncio.get_running_loop().call_later(0.1, engine.turn)
        begun = time.monotonic()
        second = await replica.report(first.seen, 5.0)
        waited = time.monotonic() - begun
        third = await replica.report(second.seen, 0.01)
        await stream.aclose()
        return first, second, third, waited

    first, second, third, waited = asyncio.run(follow())
    assert [len(one.rounds) for one in (first, second, third)] == [1, 1, 0]
    assert first.rounds[0].rows[0].ticket == "w7"
    assert waited < 2
    assert first.row_s == pytest.approx(0.01)


def test_a_replica_reports_why_its_engine_does_not_start():
    replica = Replica("r0", FakeEngine(error=ModelError("no such model")))
    end = time.monotonic() + 5
    while not replica.ended and time.monotonic() < end:
        time.sleep(0.01)
    report = asyncio.run(replica.report(0))
    assert isinstance(report.error, ModelError)
    assert report.model is None
    assert "no such model" in replica.ended


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:10001", "127.0.0.1:70000", ":6379"])
def test_a_ray_that_is_not_there_is_an_error_at_once(address):
    begun = time.monotonic()
    with pytest.raises(ServiceError, match="HOST:PORT"):
        join(address)
    assert time.monotonic() - begun < 5

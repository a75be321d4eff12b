"""The engine's process dies in every way there is: nothing is lost, nothing is told twice, poison alone fails."""

import os
import random
import signal
import time

import pytest
from fake_engine import picture
from listening import PATIENCE_S, Ears, eventually, fake_service

from headrace.errors import DeadlineError, ExecutionError, ModelError, PoisonError, RequestError, ServiceError
from headrace.request import Request
from headrace.service import Failed, Finished, Preview, ServiceSettings, Supervisor, Wish


def wishes(count, prompt="apple", steps=12, **options):
    return [Wish(Request(prompt=prompt, steps=steps + i % 5, seed=i), **options) for i in range(count)]


def right(event, wish):
    return isinstance(event, Finished) and (event.pictures[0] == picture(wish.request)).all()


def test_what_was_accepted_survives_kill_9_at_any_moment():
    generator, ears = random.Random(5), Ears()
    asked = wishes(40, previews=3)
    with fake_service(policy_options={"round_s": 0.004}) as service:
        tickets = [service.submit(wish, ears) for wish in asked]
        for _ in range(6):
            eventually(lambda: service.process_ids)
            time.sleep(generator.random() * 0.15)
            for number in service.process_ids:
                os.kill(number, signal.SIGKILL)
            eventually(lambda: service.status().state == "ready" or service.status().restarts)
        ends = ears.over(tickets)
        status = service.status()
    assert all(right(event, wish) for event, wish in zip(ends, asked, strict=True))
    assert ears.in_order(tickets)
    assert (status.accepted, status.finished, status.failed, status.poisoned) == (40, 40, 0, 0)
    assert 1 <= status.restarts <= 6
    assert max(event.timing.attempts for event in ends) > 1


@pytest.mark.parametrize("way", ["abort", "segv", "exit"])
def test_poison_fails_alone(way):
    ears = Ears()
    asked = wishes(9)
    bad = Wish(Request(prompt=f"{way}@5", steps=12))
    with fake_service() as service:
        tickets = [service.submit(wish, ears) for wish in [*asked[:2], bad, *asked[2:]]]
        ends = ears.over(tickets)
        status = service.status()
    poison = ends.pop(2)
    assert isinstance(poison, Failed)
    assert isinstance(poison.error, PoisonError)
    assert all(right(event, wish) for event, wish in zip(ends, asked, strict=True))
    assert (status.poisoned, status.failed, status.restarts) == (1, 1, 2)


def test_poisons_that_crash_while_they_are_checked_or_in_one_batch_are_all_found():
    ears = Ears()
    asked = wishes(6)
    bad = [Wish(Request(prompt=word, steps=12)) for word in ("check@0", "abort@1", "abort@11", "abort@0")]
    with fake_service() as service:
        tickets = [service.submit(wish, ears) for wish in [*bad[:2], *asked, *bad[2:]]]
        ends = ears.over(tickets)
        eventually(lambda: service.status().state == "ready")
        assert service.status().poisoned == 4
    assert all(isinstance(event.error, PoisonError) for event in ends[:2] + ends[-2:])
    assert all(right(event, wish) for event, wish in zip(ends[2:-2], asked, strict=True))


def test_a_process_that_hangs_is_replaced_and_who_hangs_it_is_poison():
    ears = Ears()
    asked = wishes(3)
    with fake_service(stall_s=1.0) as service:
        tickets = [service.submit(wish, ears) for wish in [*asked, Wish(Request(prompt="hang@2", steps=12))]]
        ends = ears.over(tickets)
    assert isinstance(ends.pop().error, PoisonError)
    assert all(right(event, wish) for event, wish in zip(ends, asked, strict=True))


def test_a_process_that_is_stopped_dead_is_replaced():
    ears = Ears()
    with fake_service(stall_s=1.0, policy_options={"round_s": 0.02}) as service:
        ticket = service.submit(wishes(1)[0], ears)
        eventually(lambda: service.status().load.denoising)
        os.kill(service.process_ids[0], signal.SIGSTOP)
        assert isinstance(ears.over([ticket])[0], Finished)
        assert service.status().restarts == 1


def test_what_gets_the_process_killed_every_time_ends_too():
    ears = Ears()
    asked = wishes(3)
    with fake_service(kills=2) as service:
        tickets = [service.submit(wish, ears) for wish in [*asked, Wish(Request(prompt="kill@5", steps=12))]]
        ends = ears.over(tickets)
        status = service.status()
    assert isinstance(ends.pop().error, PoisonError)
    assert all(right(event, wish) for event, wish in zip(ends, asked, strict=True))
    assert status.restarts == 4


def test_who_fails_or_is_refused_alone_is_told_so():
    ears = Ears()
    with fake_service() as service:
        tickets = [service.submit(Wish(Request(prompt=word, steps=3)), ears) for word in ("fail", "refuse", "fine")]
        fail, refuse, fine = ears.over(tickets)
        assert service.status().restarts == 0
    assert isinstance(fail.error, ExecutionError)
    assert isinstance(refuse.error, RequestError)
    assert ears.kinds(tickets[1]) == [Failed]
    assert isinstance(fine, Finished)


def test_a_model_that_cannot_be_loaded_is_said_at_once():
    service = Supervisor(ServiceSettings("fake", program="fake_engine", policy_options={"broken": True}))
    with pytest.raises(ModelError, match="no such model"):
        service.start(PATIENCE_S)
    assert service.status().state == "stopped"


def test_a_process_that_never_starts_ends_in_a_service_error():
    service = Supervisor(
        ServiceSettings("fake", program="fake_engine", policy_options={"crash": True}, backoff_s=0.01, failed_starts=3)
    )
    with pytest.raises(ServiceError, match="does not start"):
        service.start(PATIENCE_S)


def test_a_deadline_that_passes_is_told_and_makes_room():
    ears = Ears()
    with fake_service(policy_options={"round_s": 0.05}) as service:
        late = service.submit(Wish(Request(prompt="slow", steps=900), timeout_s=0.3), ears)
        (event,) = ears.over([late])
        assert isinstance(event.error, DeadlineError)
        eventually(lambda: service.status().load.denoising == 0)
        assert isinstance(ears.over([service.submit(wishes(1)[0], ears)])[0], Finished)


def test_cancelled_means_silence_and_a_free_slot():
    ears = Ears()
    with fake_service(slots=1, policy_options={"round_s": 0.01}) as service:
        first = service.submit(Wish(Request(prompt="long", steps=900)), ears)
        second = service.submit(wishes(1)[0], ears)
        eventually(lambda: service.status().load.denoising)
        assert service.cancel(first)
        assert not service.cancel(first)
        heard = len(ears.events.get(first, []))
        assert isinstance(ears.over([second])[0], Finished)
        assert len(ears.events.get(first, [])) <= heard + 1
        assert Finished not in ears.kinds(first)
        assert service.status().cancelled == 1


def test_previews_come_once_each_though_the_process_dies_between_them():
    ears = Ears()
    wish = Wish(Request(prompt="apple", steps=40), previews=3)
    with fake_service(policy_options={"round_s": 0.01}) as service:
        ticket = service.submit(wish, ears)
        for count in (1, 2):
            eventually(lambda count=count: ears.kinds(ticket).count(Preview) >= count)
            os.kill(service.process_ids[0], signal.SIGKILL)
            eventually(lambda: service.status().state == "ready")
        assert right(ears.over([ticket])[0], wish)
    assert [event.index for event in ears.events[ticket] if isinstance(event, Preview)] == [0, 1, 2]


def test_a_process_that_stands_by_takes_over():
    ears = Ears()
    asked = wishes(6)
    others = children(os.getpid())  # of tests before
    with fake_service(standby=True, policy_options={"round_s": 0.01}) as service:
        eventually(lambda: len(children(os.getpid()) - others) == 2)
        second = children(os.getpid()) - others - {*service.process_ids}
        tickets = [service.submit(wish, ears) for wish in asked]
        eventually(lambda: service.status().load.denoising)
        os.kill(service.process_ids[0], signal.SIGKILL)
        ends = ears.over(tickets)
        assert {*service.process_ids} == second
    assert all(right(event, wish) for event, wish in zip(ends, asked, strict=True))
    eventually(lambda: children(os.getpid()) <= others)


def children(parent):
    found = set()
    for task in os.listdir(f"/proc/{parent}/task"):
        with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as file:
            found |= {int(number) for number in file.read().split()}
    return found

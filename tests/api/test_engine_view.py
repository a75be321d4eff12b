"""What the page asks of the server: events of the engine, and what settings would cost."""

import asyncio
import json
import time
from dataclasses import replace

import httpx
import pytest
from batch_server import served, wait_for
from fake_service import CARD, CLASSES, FakeService

from headrace.api.page.pace import Pace, rows_of
from headrace.api.page.viewers import MOST_VIEWERS, ROUNDS_KEPT, Viewers
from headrace.service import RoundSeen, RowSeen

ROUND = RoundSeen(
    0, 0.0, 0.02, 0.016, 0.004, (RowSeen("t", 1, 20, 32, 48, True, False),), (), 1, 2, 0, 1, 0, "all", {"tau": 0.5}
)


@pytest.fixture(scope="module")
def server():
    service = FakeService()
    with served(service, None) as client:
        yield service, str(client.base_url)


def test_events_tell_of_the_state_and_of_every_round(server):
    _, root = server
    with httpx.stream("GET", f"{root}engine/events", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = answer.iter_lines()
        kind, data = event_of(found)
        assert (kind, data["state"], data["policy"]) == ("status", "ready", "fake")
        httpx.post(f"{root}images/generations", json={"prompt": "x"})
        while kind != "rounds":
            kind, data = event_of(found)
    (seen,) = data["rounds"]
    assert seen["rows"] == [["t1", 20, 20, 32, 48, 1, 0]]
    assert (seen["reason"], seen["controller"]) == ("all", {"window": 0.5, "chunks": 4.0})
    assert data["lost"] == 0


def event_of(found):
    kind = next(line for line in found if line.startswith("event: "))[7:]
    return kind, json.loads(next(found).removeprefix("data: "))


def test_a_slow_viewer_loses_rounds_and_stops_nobody():
    async def watch():
        viewers = Viewers()
        slow, quick = viewers.join(), viewers.join()
        begun = time.perf_counter()
        for number in range(ROUNDS_KEPT + 40):
            viewers.saw_round(replace(ROUND, at=float(number)))
        assert time.perf_counter() - begun < 1
        rounds, lost = await slow.rounds(1)
        assert (len(rounds), lost, rounds[-1].at) == (ROUNDS_KEPT, 40, ROUNDS_KEPT + 39.0)
        assert await slow.rounds(0.01) == ([], 0)
        viewers.leave(slow)
        viewers.saw_round(ROUND)
        assert await slow.rounds(0.01) == ([], 0)
        assert (await quick.rounds(1))[1] == 41
        viewers.saw_round(ROUND)
        assert await quick.rounds(1) == ([ROUND], 0)

    asyncio.run(watch())


def test_only_so_many_may_watch():
    async def join():
        viewers = Viewers()
        joined = [viewers.join() for _ in range(MOST_VIEWERS)]
        assert viewers.join() is None
        viewers.leave(joined[0])
        assert viewers.join() is not None

    asyncio.run(join())


def test_a_viewer_who_leaves_is_forgotten(server):
    service, root = server
    before = len(service._watchers)
    with httpx.stream("GET", f"{root}engine/events", timeout=10) as answer:
        next(answer.iter_lines())
    assert len(service._watchers) == before  # one watcher for all viewers


def test_costs_are_in_rows_before_anything_ran_and_in_seconds_after(server):
    service, _ = server
    with served(FakeService(), None) as client:
        root = str(client.base_url)

        def cost(**body):
            return httpx.post(f"{root}engine/costs", json=body).json()

        plain = cost()
        assert (plain["rows"], plain["network_rows"], plain["relative"], plain["seconds"]) == (20, 40, 1, None)
        assert cost(guidance_scale=1)["relative"] == 0.5
        assert cost(steps=10, n=4)["relative"] == 2
        assert cost(size="96x64")["relative"] == 4
        assert (cost(solver="heun")["rows"], rows_of(10, "euler")) == (39, 10)
        fast = cost(acceleration="fast")
        assert (fast["steps"], fast["speedup"], fast["relative"]) == (12, 1.7, pytest.approx(1 / 1.7))
        assert cost(acceleration="fast", steps=24)["relative"] == pytest.approx(2 / 1.7)
        client.images.generate(prompt="x")
        wait_for(lambda: cost()["seconds"] is not None)
        assert cost(steps=10)["seconds"] == pytest.approx(cost()["seconds"] / 2, rel=0.5)
        bad = httpx.post(f"{root}engine/costs", json={"size": "33x48"})
        assert (bad.status_code, bad.json()["error"]["param"]) == (422, "size")
    assert service.card is CARD


def test_costs_of_a_model_of_classes():
    with served(FakeService(CLASSES), None) as client:
        assert httpx.post(f"{client.base_url}engine/costs", json={}).json()["network_rows"] == 40


def test_the_pace_follows_what_was_seen_last():
    pace = Pace()
    assert pace.seconds(1.0, 1.0) is None
    for seconds in (1.0, 2.0):
        for _ in range(400):
            pace.saw_round(replace(ROUND, unet_s=seconds, decode_s=0.0))
        assert pace.seconds(32 * 48 * 2, 0) == pytest.approx(seconds, rel=0.01)


def test_the_page_is_made_of_its_own_files_alone(server):
    _, root = server
    address = root.removesuffix("/v1/")
    page = httpx.get(f"{address}/")
    assert page.headers["cache-control"] == "no-cache"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "style=" not in page.text
    assert "http" not in page.text.replace("http-equiv", "")
    script = httpx.get(f"{address}/static/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = httpx.get(f"{address}/static/app.js", headers={"If-None-Match": script.headers["etag"]})
    assert again.status_code == 304
    assert httpx.get(f"{address}/static/%2e%2e/page.py").status_code == 404
    assert httpx.get(f"{address}/static/../index.html").status_code == 404

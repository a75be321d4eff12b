"""Refusals, deadlines, callers who leave: which answers those are."""

import asyncio
import json

import pytest
from fake_service import FakeService
from http_app import GENERATIONS, Lines, RawCall, ask, call, calling, events_of, until

from headrace.api.app import create_app
from headrace.api.logs import make_log
from headrace.api.settings import ApiSettings
from headrace.errors import (
    BusyError,
    DeadlineError,
    HeadraceError,
    NotReadyError,
    PlanError,
    PoisonError,
    ServiceError,
    StoppingError,
)

BODY = json.dumps({"prompt": "x", "n": 3}).encode()


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (BusyError("300 wait", 7.2, "Ask later"), 429, "busy", {"retry-after": "8"}),
        (BusyError("300 wait", 0.0), 429, "busy", {"retry-after": "1"}),
        (DeadlineError("9 s", 9.0, "Give more"), 408, "deadline_refused", {"x-should-retry": "false"}),
        (NotReadyError("it loads"), 503, "starting", {"retry-after": "5"}),
        (StoppingError("it drains"), 503, "draining", {"retry-after": "10"}),
        (ServiceError("it is lost"), 503, "unavailable", {"retry-after": "10"}),
        (PlanError("no such plan"), 422, "invalid_value", {}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_told_at_once(error, status, code, headers, stream):
    service = FakeService()
    service.refuse = error
    answer = ask(service, prompt="x", stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert headers.items() <= dict(answer.headers).items()


def test_nothing_of_a_request_is_left_where_one_of_its_wishes_is_refused():
    class Narrow(FakeService):
        def submit(self, wish, listen):
            if len(self.taken) == 2:
                raise BusyError("full", 3.0)
            return super().submit(wish, listen)

    service = Narrow(hold=True)
    assert ask(service, prompt="x", n=3).status_code == 429
    assert not service.taken
    assert len(service.dropped) == 2


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DeadlineError("late", 2.0), 408, "deadline_passed"),
        (PoisonError("it crashed the engine twice"), 500, "poisoned"),
        (StoppingError("stopped"), 503, "draining"),
    ],
)
def test_a_failure_later_on_is_told_by_what_it_was(error, status, code):
    service = FakeService()
    service.fail = lambda wish: error
    answer = ask(service, prompt="x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_what_nobody_expected_is_told_with_the_request_id_alone():
    class Broken(FakeService):
        def submit(self, wish, listen):
            raise KeyError("/secret/path")

    lines = Lines()

    async def story():
        async with calling(Broken(), lines=lines) as http:
            return await http.post(GENERATIONS, json={"prompt": "x"}, headers={"X-Request-ID": "mine-7"})

    answer = asyncio.run(story())
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "mine-7" in answer.text
    assert "secret" not in answer.text
    assert lines.records[0]["exception"]
    assert lines.records[-1]["status"] == 500


async def _raw(service: FakeService, settings: ApiSettings | None = None, **more) -> RawCall:
    app = create_app(service, settings, make_log("json", Lines()))
    return RawCall(app, **more)


@pytest.mark.parametrize("more", [{}, {"stream": True, "partial_images": 3}])
def test_a_caller_who_leaves_drops_all_pictures(more):
    service = FakeService(hold=True)

    async def story():
        one = await _raw(service)
        one.send_body(json.dumps({"prompt": "x", "n": 3, **more}).encode())
        await until(lambda: len(service.taken) == 3)
        one.leave()
        await asyncio.wait_for(one.task, 5)

    asyncio.run(story())
    assert len(service.dropped) == 3
    assert not service.taken


def test_a_caller_who_leaves_a_stream_between_previews_drops_the_rest():
    service = FakeService(hold=True)

    async def story():
        one = await _raw(service)
        one.send_body(json.dumps({"prompt": "x", "n": 2, "stream": True, "partial_images": 2}).encode())
        await until(lambda: len(service.taken) == 2)
        service.release(previews_only=True)
        await until(lambda: one.text.count("partial_image_index") == 4)
        one.leave()
        await asyncio.wait_for(one.task, 5)

    asyncio.run(story())
    assert len(service.dropped) == 2


def test_a_silent_stream_says_that_it_is_there():
    service = FakeService(hold=True)

    async def story():
        one = await _raw(service, ApiSettings(keep_alive_s=0.02))
        one.send_body(json.dumps({"prompt": "x", "stream": True, "partial_images": 1}).encode())
        await until(lambda: service.taken)
        service.release(previews_only=True)
        await until(lambda: one.text.count(": still here") >= 2)
        service.release()
        await one.task
        return one.text

    assert events_of(asyncio.run(story()))[-1]["type"] == "image_generation.completed"


def test_a_large_body_is_refused_by_its_length_and_by_counting():
    settings = ApiSettings(max_body_bytes=100)
    assert ask(FakeService(), settings, prompt="x" * 200).status_code == 413

    async def story():
        one = await _raw(FakeService(), settings)
        for _ in range(5):
            one.send_body(b" " * 30, more=True)
        await asyncio.wait_for(one.task, 5)
        return one.status, json.loads(one.text)["error"]["code"]

    assert asyncio.run(story()) == (413, "body_too_large")


def test_a_body_that_does_not_come_is_given_up():
    async def story():
        one = await _raw(FakeService(), ApiSettings(body_timeout_s=0.05))
        one.send_body(b'{"prompt"', more=True)
        await asyncio.wait_for(one.task, 5)
        return one.status

    assert asyncio.run(story()) == 408


@pytest.mark.parametrize(
    "content", [b"{", b"[" * 100_000, b"\xff\xfe", b'{"seed": ' + b"9" * 5000 + b"}", b"null", b"[]", b'"x"', b""]
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_bodies_that_are_no_json_object_are_refused(content, kind):
    answer = call(FakeService(), "POST", GENERATIONS, content=content, headers={"content-type": kind})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1", "1.5e2.5"])
def test_numbers_that_are_none_are_refused(number):
    content = f'{{"prompt": "x", "guidance_scale": {number}}}'
    answer = call(FakeService(), "POST", GENERATIONS, content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


def test_more_open_requests_than_allowed_are_refused():
    service = FakeService(hold=True)

    async def story():
        async with calling(service, ApiSettings(max_open_requests=2)) as http:
            held = [asyncio.create_task(http.post(GENERATIONS, json={"prompt": "x"})) for _ in range(2)]
            await until(lambda: len(service.taken) == 2)
            refused = await http.post(GENERATIONS, json={"prompt": "x"})
            lives = await http.get("/healthz")
            service.release()
            return refused, lives, [(await one).status_code for one in held]

    refused, lives, held = asyncio.run(story())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert lives.status_code == 200
    assert held == [200, 200]


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/images/variations"])
def test_pictures_from_pictures_are_not_offered(path):
    answer = call(FakeService(), "POST", path, content=b"x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_offered")


def test_unknown_paths_and_methods_are_told_in_the_same_shape():
    assert call(FakeService(), "GET", "/v1/nothing").json()["error"]["code"] == "not_found"
    assert call(FakeService(), "GET", GENERATIONS).json()["error"]["code"] == "method_not_allowed"


def test_any_typed_error_has_an_answer():
    service = FakeService()
    service.fail = lambda wish: HeadraceError("something that has no case of its own")
    assert ask(service, prompt="x").json()["error"]["message"].startswith("something")

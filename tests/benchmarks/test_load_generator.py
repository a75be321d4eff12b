"""The load generator against a server that does as it is told: counting, open loop, errors by kind."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

import openai_like
from headrace.benchmarks._serving.ask import Ask, Style, asks, at_once
from headrace.benchmarks._serving.generator import Job, Target, play
from headrace.benchmarks._serving.outcome import Outcome
from headrace.benchmarks._serving.process import run_load, start_load
from headrace.benchmarks._serving.summary import summarise
from headrace.errors import HeadraceError, ServiceError
from headrace.serving.arrivals import Mix, poisson


@pytest.fixture(scope="module")
def server():
    clock = openai_like.Clock()
    with openai_like.serving(openai_like.create_app(clock)) as url:
        yield Target(url), clock


def play_all(target: Target, asked: list[Ask], give_up_s: float = 10.0, keep: bool = False) -> list[Outcome]:
    return asyncio.run(play(Job(target, asked, give_up_s, keep)))


def ask(prompt: str, at: float = 0.0, patience_s: float | None = None, **more: object) -> Ask:
    return Ask(at, {"prompt": prompt, **more}, patience_s)


def test_a_slow_server_does_not_slow_arrivals(server):
    target, clock = server
    clock.arrivals.clear()
    clock.most = 0
    asked = [ask("slow 0.6", 0.05 * number) for number in range(8)]
    outcomes = play_all(target, asked)
    gaps = np.diff(clock.arrivals)
    assert clock.arrivals[-1] - clock.arrivals[0] < 0.6  # the last came before the first was answered
    assert gaps.max() < 0.3
    assert clock.most == 8  # each on a connection of its own
    assert all(one.kind == "done" and one.done - one.sent >= 0.6 for one in outcomes)
    assert summarise([outcomes]).late_s < 0.2


def test_latency_counts_from_when_a_request_should_have_been_sent():
    late = Outcome(at=1.0, asked=1, sent=3.0, done=4.0, kind="done", patience_s=2.0)
    assert late.latency_s == 3.0
    assert not late.in_time
    assert summarise([[late]]).mean_s == 3.0


def test_errors_are_told_apart(server):
    target, _ = server
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        deaf = Target(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        unreachable = play_all(deaf, [ask("any")])
    prompts = ["any", "status 429", "status 422", "status 500", "status 503", "fail", "cut", "short", "more", "slow 2"]
    outcomes = play_all(target, [ask(prompt) for prompt in prompts], give_up_s=1.0) + unreachable
    kinds = [one.kind for one in outcomes]
    assert kinds == [
        "done", "refused", "invalid", "server error", "server error", "failed", "lost", "lost", "done", "lost",
        "unreachable",
    ]  # fmt: skip
    assert outcomes[1].code == "busy"
    assert outcomes[5].code == "execution_failed"
    assert "0 of 1" in outcomes[6].message
    assert "no answer in 1 s" in outcomes[9].message
    found = summarise([outcomes])
    assert (found.requests, found.done, found.refused, found.lost, found.errors_5xx) == (11, 2, 1, 3, 2)
    assert found.extra == 2  # pictures that nobody had asked for
    assert found.errors["failed"] == 1


def test_previews_and_pictures_of_a_stream(server):
    target, _ = server
    asked = [ask("any", stream=True, partial_images=2), ask("any", n=3)]
    streamed, whole = play_all(target, asked, keep=True)
    assert streamed.previews == 2
    assert streamed.sent < streamed.accepted <= streamed.first_preview < streamed.done
    assert streamed.pictures == [openai_like.PICTURE]
    assert (whole.asked, len(whole.pictures), whole.first_preview) == (3, 3, None)
    found = summarise([[streamed, whole]])
    assert found.images == 4
    assert found.preview_p50_s == pytest.approx(streamed.first_preview)


def test_percentiles_spans_and_deadlines():
    first = [Outcome(at=0.0, asked=1, done=float(n), kind="done", patience_s=50.5) for n in range(1, 101)]
    second = [Outcome(at=10.0, asked=2, done=20.0, kind="done"), Outcome(at=10.0, asked=1, kind="refused", status=429)]
    found = summarise([first, second])
    assert found.span_s == pytest.approx(100.0 + 10.0)
    assert found.throughput == pytest.approx(102 / 110)
    assert found.p99_s == pytest.approx(np.percentile([*range(1, 101), 10.0], 99))
    assert found.attainment == pytest.approx(0.5)
    refused = Outcome(at=0.0, asked=1, kind="refused", patience_s=1.0)
    assert summarise([[*first, refused]]).attainment == pytest.approx(50 / 101)
    nothing = summarise([[refused]])
    assert (nothing.throughput, nothing.p99_s, nothing.done) == (0.0, None, 0)


def test_what_a_trace_becomes():
    mix = Mix(((64, 80),), (5, 9), guided=0.5, patience=2.5)
    trace = poisson(40, 10.0, mix)
    asked = asks(trace, Style(model="m", streamed=0.25, previews=2, guidance=4.0, solver="euler"))
    assert [one.at for one in asked] == trace.time.tolist()
    assert sum(one.body.get("stream", False) for one in asked) == 10
    assert {one.body["size"] for one in asked} == {"80x64"}
    assert {one.body["timeout_ms"] for one in asked} == {2500}
    assert {one.body["guidance_scale"] for one in asked} == {1.0, 4.0}
    assert [one.body["seed"] for one in asked] == list(range(40))
    [plain, *_] = asks(trace, Style(extended=False, sized=False))
    assert set(plain.body) == {"prompt", "n"}
    assert {one.at for one in at_once(asked)} == {0.0}


def test_a_process_of_its_own(server, monkeypatch):
    target, clock = server
    monkeypatch.setenv("SOME_KEY", "secret")
    seen: list[float] = []
    job = Job(Target(target.url, "SOME_KEY"), [ask("any", 0.1 * n) for n in range(3)])
    outcomes = start_load(job, seen.append).result(60)
    assert [one.kind for one in outcomes] == ["done"] * 3
    assert [one.at for one in outcomes] == [0.0, 0.1, 0.2]
    assert seen[-1] == 1.0
    assert clock.keys[-1] == "Bearer secret"
    assert clock.keys[0] is None
    with pytest.raises(HeadraceError, match="NO_SUCH_KEY"):
        run_load(Job(Target(target.url, "NO_SUCH_KEY")))


def test_a_generator_that_breaks(server):
    target, _ = server
    with pytest.raises(ServiceError, match="after 0 of 1"):
        run_load(Job(target, [Ask(0.0, {"prompt": "any"}, None)], give_up_s="soon"))


@pytest.mark.parametrize("url", ["nowhere", "ftp://host", "http://", "http://[::1"])
def test_what_is_no_address(url):
    with pytest.raises(HeadraceError, match="no server's address"):
        Target(url)

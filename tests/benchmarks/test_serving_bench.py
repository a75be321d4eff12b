"""The serving benchmark: its figures as they are defined, any server by its address, and all of it on a tiny model."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import openai_like
from headrace.benchmarks import serving
from headrace.benchmarks._serving.ask import Ask, Style
from headrace.benchmarks._serving.contest import Contest, contest, warm_up
from headrace.benchmarks._serving.fault import Faulted, engine_of, killed_under_load
from headrace.benchmarks._serving.generator import Target
from headrace.benchmarks._serving.loads import BURST, DEADLINES, HIGH, LEAST, LOW, Draw, Load, streamed
from headrace.benchmarks._serving.measure import QUICK, Scale
from headrace.benchmarks._serving.outcome import Outcome
from headrace.benchmarks._serving.overhead import measure_overhead
from headrace.benchmarks._serving.pictures import largest_difference
from headrace.benchmarks._serving.servers import ServerProcess
from headrace.benchmarks._serving.study import OURS, PEER, Study
from headrace.benchmarks._serving.style import style_for
from headrace.benchmarks.registry import BenchOptions, load_benchmark
from headrace.errors import HeadraceError, ServiceError, UnsupportedModelError
from headrace.request import Request
from headrace.service import Accepted, Finished, ModelCard, Status, Timing


def quiet(name: str, share: float) -> None:
    """Shows nothing."""


def picture(level: int) -> str:
    target = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(target, format="png")
    return base64.b64encode(target.getvalue()).decode()


def done(at: float, until: float, level: int = 0) -> Outcome:
    return Outcome(at, 1, sent=at, done=until, status=200, kind="done", pictures=[picture(level)])


@pytest.fixture(scope="module")
def server():
    clock = openai_like.Clock()
    with openai_like.serving(openai_like.create_app(clock)) as url:
        yield Target(url), clock


def test_ratios_are_ours_over_the_peers_at_the_high_load():
    asked = [Ask(0.0, {}), Ask(1.0, {})]
    ours = [[done(0.0, 1.0), done(1.0, 2.0)]]
    theirs = [[done(0.0, 2.0, 1), done(1.0, 8.0)]]
    lost = Outcome(0.0, 1, sent=0.0)
    busy = Outcome(0.0, 1, sent=0.0, status=503, kind="server error")
    study = Study(
        OURS,
        {OURS: 3.0, PEER: 2.0},
        [
            Contest(Load(LOW, [asked]), {OURS: [[lost, busy]], PEER: [[lost, lost]]}),
            Contest(Load(HIGH, [asked]), {OURS: ours, PEER: theirs}),
        ],
        faulted=Faulted([done(0.0, 3.0, 2), done(1.0, 4.0)], 2),
    )
    figures = study.figures()
    assert figures["throughput_ratio"] == pytest.approx((2 / 2) / (2 / 8))
    assert figures["p99_ratio"] == pytest.approx(1 / 6.95, rel=1e-3)
    assert figures["capacity_ratio"] == 1.5
    assert (figures["lost"], figures["errors_5xx"], figures["kills"]) == (1, 1, 2)  # the peer's are its own
    assert figures["errors"] == {"server error": 1, "lost": 1}
    assert figures["max_pixel_difference"] == 1
    assert figures["max_pixel_difference_after_kills"] == 2
    assert figures["http_overhead_ms"] is None
    json.dumps({**figures, **study.details()})


def test_pictures_of_who_both_answered_are_compared():
    assert largest_difference([done(0, 1, 7)], [done(0, 1, 9)]) == 2
    assert largest_difference([done(0, 1, 7), Outcome(0, 1)], [done(0, 1, 7), done(0, 1)]) == 0
    assert largest_difference([Outcome(0, 1)], [done(0, 1)]) is None


def test_loads_are_drawn_at_multiples_of_a_capacity():
    draw = Draw(100.0, 2, (2, 4), Style(sized=False))
    for name, rate in ((LOW, 2.0), (HIGH, 8.0)):
        for turn in draw.load(name, 4.0).turns:
            assert len(turn) == 100 * rate
            assert turn[-1].at == pytest.approx(100.0, rel=0.2)
            assert {one.body["steps"] for one in turn} == {2, 3, 4}
    assert draw.load(HIGH, 4.0).turns[0] != draw.load(HIGH, 4.0).turns[1]
    assert all(one.patience_s == pytest.approx(2.0) for one in draw.load(DEADLINES, 4.0).turns[0])
    gaps = np.diff([one.at for one in draw.load(BURST, 4.0).turns[0]])
    assert np.median(gaps) < 0.5 / 4.0
    half = streamed(draw.load(LOW, 4.0), 0.5, 2)
    assert sum(one.body.get("stream", False) for one in half) == 100
    assert {one.at for one in draw.crowd(5, 0)} == {0.0}
    assert len(draw.load(LOW, 0.001).turns[0]) == LEAST


def test_who_begins_alternates():
    sent = []

    def send(job, advance):
        sent.append((job.target.url, job.asks[0].body["seed"], job.keep))
        advance(1.0)
        return [done(0.0, 1.0)]

    turns = [[Ask(0.0, {"seed": number})] for number in range(2)]
    targets = {"a": Target("http://a"), "b": Target("http://b")}
    shares = []
    found = contest(Load("some", turns), targets, lambda name, share: shares.append((name, share)), send)
    assert [one[:2] for one in sent] == [("http://a", 0), ("http://b", 0), ("http://b", 1), ("http://a", 1)]
    assert shares == [("some: a", 0.5), ("some: b", 0.5), ("some: b", 1.0), ("some: a", 1.0)]
    assert [len(turns) for turns in found.turns.values()] == [2, 2]
    contest(Load(HIGH, turns), targets, quiet, send)
    assert [one[2] for one in sent] == [False] * 4 + [True] * 4  # pictures are compared there


def test_a_server_that_makes_no_pictures_is_named(server):
    target, _ = server
    with pytest.raises(ServiceError, match=r"broken did not answer with a picture \(status 500\)"):
        warm_up({"broken": target}, [Ask(0.0, {"prompt": "status 500"})])


def test_requests_are_written_as_the_server_takes_them(server):
    target, _ = server
    assert style_for(target) == Style(model="model", extended=False, sized=False)
    with pytest.raises(HeadraceError, match="no model 'other'"):
        style_for(target, "other")


def test_any_server_by_its_address(server, tmp_path, capsys):
    target, _ = server
    scale = replace(QUICK, seconds=0.1, crowd=2)
    options = BenchOptions(model="model", url=target.url + "/v1", out=tmp_path)
    figures = serving.run(options, Console(width=100), scale)
    assert (figures["throughput_ratio"], figures["lost"], figures["errors_5xx"]) == (None, 0, 0)
    assert json.loads((tmp_path / "serving.json").read_text())["runs"][0]["requests"] >= LEAST
    assert (tmp_path / "serving.png").read_bytes().startswith(b"\x89PNG")
    assert "images/s" in capsys.readouterr().out


def test_a_model_without_prompts_has_no_peer(tiny_model):
    with pytest.raises(UnsupportedModelError, match="takes no prompts"):
        serving.run(BenchOptions(model=str(tiny_model("ddpm"))), Console(), QUICK)


def test_a_server_that_ends_at_once_says_why():
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with ServerProcess("the server", command) as server, pytest.raises(ServiceError, match="no such model"):
        server.wait()


WORKER = "import time; time.sleep(60)"
SUPERVISOR = f"""
import subprocess, sys
while True:
    subprocess.Popen([sys.executable, "-c", {WORKER!r}, "headrace.service.worker"]).wait()
"""


def test_the_engine_is_killed_while_requests_come(server):
    target, _ = server
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR]) as process:
        try:
            asked = [Ask(0.3 * number, {"prompt": "slow 0.1"}) for number in range(6)]
            found = killed_under_load(target, process.pid, asked, 2, quiet)
            assert found.kills == 2
            assert [one.kind for one in found.outcomes] == ["done"] * 6
        finally:
            process.kill()
            engine = engine_of(process.pid)
    assert engine is None  # below a process that is gone


def test_a_server_without_an_engine_has_none():
    with subprocess.Popen([sys.executable, "-c", WORKER]) as process:
        assert engine_of(process.pid) is None
        process.kill()


class SlowService:
    """Every picture takes `seconds`, told of by a thread of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.model = ModelCard(
            "slow", "any", "prompt", 0, True, 4.0, 20, "ddim", (8, 8), 8, 4096, solvers=("ddim", "dpm++2m")
        )  # fmt: skip

    def submit(self, wish, listen):
        def tell():
            listen(Accepted("1", 1, self.seconds))
            time.sleep(self.seconds)
            now = time.monotonic()
            listen(Finished("1", (np.zeros((8, 8, 3), np.uint8),), Timing(now, now, now, now)))

        threading.Thread(target=tell).start()
        return "1"

    def cancel(self, ticket):
        return True

    def status(self):
        return Status("ready")

    def watch(self, tell):
        return lambda: None

    def start(self, wait_s=None):
        pass

    def stop(self, drain_s=0.0):
        return True


def test_what_http_adds_is_besides_the_services_time():
    request = Request(prompt="red apple", steps=1, solver="ddim")
    found = measure_overhead(SlowService(0.05), request, 5, quiet)
    assert found.pairs == 5
    assert found.service_ms == pytest.approx(50, abs=25)
    assert found.direct_ms == pytest.approx(50, abs=25)
    assert 0 < found.added_ms < found.http_ms - 45
    assert found.added_ms <= found.added_p95_ms


def test_both_servers_on_a_tiny_model(tiny_model, tmp_path):
    scale = Scale((HIGH,), seconds=0.1, turns=1, steps=(2, 4), crowd=2, pairs=0, kills=0)
    options = BenchOptions(model=str(tiny_model("sd1")), out=tmp_path)
    figures = load_benchmark("serving")(options, Console(width=100), scale)
    assert (figures["lost"], figures["errors_5xx"], figures["refused"], figures["answered_twice"]) == (0, 0, 0, 0)
    assert figures["throughput_ratio"] > 0
    assert figures["p99_ratio"] > 0
    assert figures["max_pixel_difference"] <= 1
    assert figures["threads"] >= 1

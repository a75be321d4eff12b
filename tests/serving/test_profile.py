"""Rounds of an engine, timed, and the latency table of tiny random models."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from headrace.engine import Engine, EngineSettings
from headrace.errors import CalibrationError, NumericalError, RequestError
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.serving.latency_table import LatencyTable
from headrace.serving.measurement import Design, Load
from headrace.serving.profile import EngineProbe, identity, lanes_of, probes, profile
from headrace.serving.table_check import check_table

APPLE = Request(prompt="red apple")
SIZE = (64, 64)


class Recording(Engine):
    """An engine that keeps what it was told to do and what it did."""

    seen: list

    def step(self, order=None):
        report = super().step(order)
        self.seen.append((order, report))
        return report


class FakeEngine:
    """Rounds that take what they are told; requests live as long as they have rows."""

    def __init__(self, times, error=None):
        self.pipeline = SimpleNamespace(guidance=lambda request: 3.0)
        self.times = iter(times)
        self.error = error
        self.rows = {}
        self.cancelled = []
        self.measured = []

    def submit(self, request, plan):
        self.rows[len(self.rows)] = len(plan)
        return len(self.rows) - 1

    def step(self, order):
        for number in order.rows:
            self.rows[number] -= 1
        if order.admit:
            return None
        self.measured.append(order)
        unet, vae = next(self.times)
        return SimpleNamespace(unet_s=unet, decode_s=vae)

    def progress(self, number):
        return SimpleNamespace(row=0, rows=self.rows[number])

    def cancel(self, number):
        self.cancelled.append(number)
        return True

    def collect(self):
        return [SimpleNamespace(error=self.error)]


@pytest.fixture
def recording(tiny_pipeline):
    engine = Recording(tiny_pipeline("sd1"), EngineSettings(slots=32))
    engine.seen = []
    return engine


def test_a_load_is_run_as_it_is_meant(recording):
    probe = EngineProbe(recording, APPLE)
    unet, vae = probe(Load(SIZE, rows=4, decodings=2, skipped=1, chunks=3))
    measured = [(order, report) for order, report in recording.seen if not order.admit]
    assert len(measured) == 3
    for order, report in measured:
        assert (report.rows, report.network_rows, report.calls, report.chunks) == (4, 7, 1, 2)
        assert order.chunks == 3
    assert measured[-1][1].finished == 2
    assert unet == pytest.approx(sum(report.unet_s for _, report in measured) / 3)
    assert vae == pytest.approx(sum(report.decode_s for _, report in measured) / 3)
    assert vae > 0


def test_rounds_of_one_kind_alone(recording):
    probe = EngineProbe(recording, APPLE)
    unet, vae = probe(Load(SIZE, rows=3, skipped=3))
    assert unet > 0 == vae
    assert recording.seen[-1][1].network_rows == 3
    unet, vae = probe(Load((64, 32), rows=0, decodings=2))
    assert vae > 0 == unet
    assert not recording.decoding


def test_requests_stay_between_loads(recording):
    probe = EngineProbe(recording, APPLE)
    for _ in range(3):
        probe(Load(SIZE, rows=4))
    assert [len(order.admit or ()) for order, _ in recording.seen] == [4, 0, 0, 0]
    probe(Load(SIZE, rows=6, skipped=1))
    assert recording.seen[-1][1].rows == 6
    assert len(recording.denoising) == 6


def test_the_mean_over_the_chunks_counts():
    probe = EngineProbe(FakeEngine([(0.1, 0.2), (0.3, 0.4)]), APPLE)
    assert probe(Load(SIZE, 1, 1, 0, 2)) == pytest.approx((0.2, 0.3))


def test_requests_without_rows_left_are_replaced():
    engine = FakeEngine([(0.1, 0.0)] * 5)
    probe = EngineProbe(engine, APPLE, rows=2)
    for _ in range(5):
        probe(Load(SIZE, 1))
    assert engine.cancelled == [0, 1]
    assert [order.rows for order in engine.measured] == [[0], [0], [1], [1], [2]]


def test_what_a_request_fails_with_is_raised():
    engine = FakeEngine([(0.1, 0.0)], NumericalError("latents became NaN"))
    with pytest.raises(NumericalError, match="NaN"):
        EngineProbe(engine, APPLE)(Load(SIZE, 1))


@pytest.mark.parametrize(
    ("kind", "request_", "size"),
    [("sd1", APPLE, (64, 64)), ("ddim", Request(), (16, 16)), ("ldm", Request(), (16, 16))],
)
def test_a_table_is_measured(tiny_model, tmp_path, kind, request_, size):
    pipeline = load(tiny_model(kind))
    sizes = (size, (size[0], 2 * size[1]))
    design = Design(sizes, (0, 1, 2), (0, 1), (1, 2)[: pipeline.max_chunks], pipeline.guided, repeats=1, held_out=1)
    lanes, told = lanes_of(pipeline), []
    table = profile(pipeline, request_, design, "here", lanes, told.append)
    assert sum(told) == probes(design, lanes)
    assert table.lane in lanes
    assert [entry.size for entry in table.sizes] == list(sizes)
    assert {grid.chunks for entry in table.sizes for grid in entry.grids} == set(design.chunks)
    assert 1 <= table.chunks <= table.max_chunks <= max(design.chunks)
    assert 0 <= table.error <= table.max_error
    assert float(table.unet_s(size, 2)) > 0 < float(table.vae_s(size, 0, 1))
    table.save(tmp_path / "latency.json")
    again = LatencyTable.load(tmp_path / "latency.json")
    assert again == table
    check_table(again, identity(pipeline, "here"))


def test_what_cannot_be_measured(tiny_pipeline):
    pipeline = tiny_pipeline("sd1")

    def run(**change):
        given = {"sizes": (SIZE,), "rows": (0, 1), "decodings": (0, 1), "chunks": (1,)} | change
        profile(pipeline, APPLE, Design(**given), "here", ["interleaved"])

    with pytest.raises(RequestError, match="60 is not a multiple"):
        run(sizes=((64, 60),))
    with pytest.raises(CalibrationError, match=f"500 chunks .* at most {pipeline.max_chunks}"):
        run(chunks=(1, 500))

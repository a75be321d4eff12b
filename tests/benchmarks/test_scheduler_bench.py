"""The scheduler's benchmark: margins as they are defined, a real engine that serves, and a run of it all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from headrace.benchmarks import scheduler
from headrace.benchmarks._scheduler.comparison import Study, margin
from headrace.benchmarks._scheduler.own_house import Effort, own_house, own_mix
from headrace.benchmarks._scheduler.planning import measure_planning
from headrace.benchmarks._scheduler.real import RealScale, serve
from headrace.benchmarks.registry import BenchOptions, load_benchmark
from headrace.engine import Engine, EngineSettings
from headrace.errors import ArtefactError
from headrace.models.pipelines.loading import load
from headrace.serving.arrivals import Mix, poisson
from headrace.serving.load_study import CONTENDERS, House, Run, Workload, run
from headrace.serving.paper import paper_table
from headrace.serving.report import summarise
from headrace.serving.skip_window import SkipWindow

SIZE = (512, 512)
EFFORT = Effort(slots=2, sizes=1, steps=(2, 3), repeats=1, pictures=2, starts=2)


@pytest.fixture(scope="module")
def table():
    return paper_table(sizes=(SIZE,))


@pytest.fixture(scope="module")
def runs(table):
    workload = Workload.drawn("poisson", 20, 3.0, Mix((SIZE,), (2, 4)))
    return [run(House(table, None, slots=4), name, workload) for name in ("sequential", "dynamic", "continuous")]


def scaled(one: Run, policy: str, throughput: float, latency: float) -> Run:
    report = replace(
        one.report,
        throughput=one.report.throughput * throughput,
        mean_latency_s=one.report.mean_latency_s * latency,
        p99_latency_s=one.report.p99_latency_s * latency,
    )
    return replace(one, policy=policy, report=report)


def test_a_margin_is_over_the_best_in_each_figure(runs):
    slow_to_answer, few = scaled(runs[0], "a", 2.0, 3.0), scaled(runs[0], "b", 0.5, 1.0)
    found = margin("some", runs[0].report, [slow_to_answer.report, few.report])
    assert found.throughput_ratio == pytest.approx(0.5)
    assert found.mean_latency_cut == pytest.approx(0.0)
    assert found.p99_cut == pytest.approx(0.0)


def test_the_headline_is_over_continuous_and_at_the_best_load(runs):
    continuous = runs[2]
    study = Study(
        {"sequential": 1.0, "dynamic": 4.0, "continuous": 2.0, "synergetic": 3.0},
        {
            "low": [*runs, scaled(continuous, "synergetic", 1.0, 0.9), scaled(continuous, "no-skipping", 1.0, 1.8)],
            "high": [*runs, scaled(continuous, "synergetic", 1.2, 0.3)],
        },
    )
    figures = study.figures()
    assert figures["throughput_ratio"] == 1.5
    assert figures["mean_latency_cut"] == pytest.approx(0.7, abs=1e-3)
    assert figures["p99_cut"] == pytest.approx(0.7, abs=1e-3)
    assert figures["worst_similarity"] is None
    assert study.ablations()["no-skipping"]["low"].mean_latency_cut == pytest.approx(0.5)
    best = study.margins(best=True)[1]
    assert best.mean_latency_cut <= study.margins()[1].mean_latency_cut
    json.dumps([figures, study.details()])


def test_planning_is_timed(table):
    found = measure_planning(table)
    assert 0 < found.again <= found.median <= found.longest


@pytest.mark.parametrize("policy", ["continuous", "synergetic", "no-chunking"])
def test_the_engine_serves_arrivals_when_they_come(table, tiny_model, policy):
    pipeline = load(tiny_model("sd1"))
    size = pipeline.default_size
    trace = poisson(5, 50.0, Mix((size,), (2, 4)))
    house = House(table, SkipWindow((0.0,), (0.5,), ((0.6,),)), slots=2, floor=0.5)
    records = serve(Engine(pipeline, EngineSettings(slots=2)), house.policy(policy)(), trace)
    assert np.array_equal(records.arrived, trace.time)
    assert records.rows.tolist() == trace.steps.tolist()
    assert (records.started >= trace.time).all()
    assert ((records.skips > 0) == np.isfinite(records.first_skip)).all()
    assert (2 * records.skips <= records.rows).all()
    assert summarise(records, house.window).throughput == pytest.approx(5 / records.span)


def test_the_whole_of_it_on_a_table_of_ones_own(tiny_model, tmp_path, capsys):
    scale = scheduler.Scale(12, 2, RealScale(EFFORT, requests=3, crowd=1, loads=("high",)))
    model = str(tiny_model("sd1"))
    pipeline = load(model)
    mix = own_mix(pipeline, EFFORT)
    own_house(pipeline, mix, EFFORT, 0.5, lambda name, share: None).table.save(tmp_path / "latency.json")
    options = BenchOptions(quick=True, model=model, data=tmp_path / "latency.json", out=tmp_path / "out")
    figures = scheduler.run(options, Console(), scale)
    assert "dp_ms" in figures
    for part in ("simulated", "real"):
        assert {"throughput_ratio", "mean_latency_cut", "p99_cut"} <= figures[part].keys()
    assert set(figures["simulated"]["peaks"]) == set(CONTENDERS)
    written = json.loads((tmp_path / "out" / "scheduler.json").read_text())
    assert written["simulated"] == json.loads(json.dumps(figures["simulated"]))
    assert len(written["runs"]["simulated"]) == 5 * len(CONTENDERS)
    assert {one["workload"] for one in written["runs"]["real"]} == {"high"}
    assert (tmp_path / "out" / "scheduler.png").read_bytes().startswith(b"\x89PNG")
    assert "over the best baseline" in capsys.readouterr().out


def test_a_table_of_another_model_is_refused(table, tiny_model, tmp_path):
    table.save(tmp_path / "latency.json")
    options = BenchOptions(quick=True, model=str(tiny_model("sd1")), data=tmp_path / "latency.json")
    with pytest.raises(ArtefactError, match="was measured on the model"):
        scheduler.run(options, Console())


def test_data_that_is_no_latency_table(tmp_path):
    with pytest.raises(ArtefactError, match=r"nothing\.json"):
        load_benchmark("scheduler")(BenchOptions(quick=True, data=tmp_path / "nothing.json"), Console())

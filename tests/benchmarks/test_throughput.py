import json

import pytest
from rich.console import Console

from headrace.benchmarks import throughput
from headrace.benchmarks._mixed_load import mixed_load
from headrace.benchmarks.registry import BenchOptions, load_benchmark
from headrace.engine import Engine


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(throughput, "QUICK_REQUESTS", 2)
    monkeypatch.setattr(throughput, "SLOTS", 4)


def test_figures_table_and_chart(small, tiny_model, tmp_path, capsys):
    options = BenchOptions(quick=True, model=str(tiny_model("sd1")), out=tmp_path)
    figures = load_benchmark("throughput")(options, Console())
    wanted = {"speedup_vs_sequential", "speedup_vs_grouped", "overhead_fraction", "max_pixel_difference", "device"}
    assert wanted <= figures.keys()
    assert json.loads((tmp_path / "throughput.json").read_text()) == json.loads(json.dumps(figures))
    assert (tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")
    rate = figures["images_per_second_engine"] / figures["images_per_second_sequential"]
    assert figures["speedup_vs_sequential"] == pytest.approx(rate, rel=1e-2)
    assert 0 < figures["overhead_fraction"] < 1
    assert "one by one" in capsys.readouterr().out


def test_overhead_is_measured_at_the_asked_number_of_rows(tiny_model, monkeypatch):
    engine = Engine.from_pretrained(tiny_model("sd1"))
    denoise, sizes = engine.pipeline.denoise, set()

    def counted(rows):
        sizes.add(len(rows))
        return denoise(rows)

    monkeypatch.setattr(engine.pipeline, "denoise", counted)
    assert 0 < throughput.overhead(engine, mixed_load(20, engine.pipeline), rows=8) < 1
    assert sizes == {8}

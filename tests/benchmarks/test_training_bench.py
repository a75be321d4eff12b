import json

import pytest
import torch
from rich.console import Console

from headrace.benchmarks import training
from headrace.benchmarks.registry import BenchOptions, load_benchmark
from headrace.errors import HeadraceError


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for name, value in {"QUICK_BATCH": 2, "QUICK_TURNS": 2, "QUICK_STEPS": 1, "IMAGES": 8}.items():
        monkeypatch.setattr(training, name, value)
    monkeypatch.setattr(training, "WIDTHS", (32, 32, 32, 32))


def test_figures_table_and_plot(small, tmp_path, capsys):
    figures = load_benchmark("training")(BenchOptions(quick=True, out=tmp_path), Console())
    assert json.loads((tmp_path / "training.json").read_text()) == json.loads(json.dumps(figures))
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    low, high = figures["fraction_quartiles"]
    assert 0 < low <= figures["fraction_of_bare_loop"] <= high
    assert figures["fraction_with_checkpoints"] < figures["fraction_of_bare_loop"]
    assert all(milliseconds > 0 for milliseconds in figures["added_ms_a_step"].values())
    assert "of the bare loop" in capsys.readouterr().out


def test_both_loops_move_the_same_network_and_turns_are_paired(small, tmp_path, monkeypatch):
    ours, bare = training._contestants(training._phase(2, training.WIDTHS), "cpu", tmp_path)
    pairs = list(zip(ours.objective.unet.parameters(), bare.network.parameters(), strict=True))
    assert all(torch.equal(one, other) for one, other in pairs)
    seconds = training._take_turns(ours, bare, turns=2, steps=1)
    assert [len(times) for times in seconds.values()] == [2, 2]
    assert ours.progress.step == 3
    assert not any(torch.equal(one, other) for one, other in pairs)
    figures = training._fractions({"ours": [2.0, 4.0, 4.0], "bare": [1.0, 3.0, 4.0]}, 8, 0.0)
    assert figures["fraction_of_bare_loop"] == figures["fraction_with_checkpoints"] == 0.75
    assert figures["images_per_second"] == 2.0


def test_a_device_that_training_would_not_take(small, tmp_path):
    with pytest.raises(HeadraceError, match=r"not on 'cuda'"):
        training._contestants(training._phase(2, training.WIDTHS), "cuda", tmp_path)

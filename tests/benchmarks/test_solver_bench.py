"""The solver benchmark: what it counts, what it sets aside, what it writes."""

from __future__ import annotations

import dataclasses
import json

import pytest
from rich.console import Console

from headrace.benchmarks import solvers
from headrace.benchmarks._solver_cases import SolverCase, cases, unlisted
from headrace.benchmarks.registry import BenchOptions, benchmarks
from headrace.errors import NotLinearError

MEASURED = solvers.Measured(
    "Euler", "defaults", "EulerDiscreteScheduler", "raw output", 1, 50, 5, 2e-6, 1e-7, 2e-6, 20.0
)


def test_the_benchmark_is_listed_with_its_summary() -> None:
    assert "Plans against the schedulers" in benchmarks()["solvers"]


def test_the_table_of_cases_covers_the_claim() -> None:
    assert len({case.solver for case in cases()}) >= 26
    assert len({(case.solver, case.variant) for case in cases()}) == len(cases())
    assert {case.scheduler for case in cases()}.isdisjoint(case.scheduler for case in unlisted())


def test_figures_count_solvers_once_and_set_aside_only_what_the_scheduler_rounds_itself() -> None:
    variant = dataclasses.replace(MEASURED, variant="Karras", difference=4e-6)
    rounded = dataclasses.replace(MEASURED, variant="huge sigma", difference=3e-5, scheduler_error=3e-5)
    figures = solvers._figures([MEASURED, variant, rounded], [])
    assert figures["solvers"] == 1
    assert figures["configurations"] == 3
    assert figures["worst_relative_difference"] == 4e-6
    assert [case["difference"] for case in figures["scheduler_rounds_more_than_bound"]] == [3e-5]
    wrong = dataclasses.replace(MEASURED, difference=3e-5, plan_error=3e-5, scheduler_error=1e-7)
    assert solvers._figures([MEASURED, wrong], [])["worst_relative_difference"] == 3e-5


def test_a_small_run_prints_and_writes(tmp_path, monkeypatch) -> None:
    few = (
        SolverCase("DDIM", "DDIMScheduler"),
        SolverCase("Euler", "EulerDiscreteScheduler", "v", {"prediction_type": "v_prediction"}),
    )
    monkeypatch.setattr(solvers, "cases", lambda: few)
    monkeypatch.setattr(solvers, "unlisted", lambda: (SolverCase("RePaint", "RePaintScheduler"),))
    console = Console(record=True, width=200)
    figures = solvers.run(BenchOptions(out=tmp_path), console)
    assert figures["solvers"] == 2
    assert 0 < figures["worst_relative_difference"] <= 1e-5
    text = console.export_text()
    assert "EulerDiscreteScheduler" not in text.split("no plan")[0]
    assert "original_image" in text
    assert json.loads((tmp_path / "solvers.json").read_text())["figures"] == dict(figures)
    assert "| Euler | v | data prediction | 1 | 50 |" in (tmp_path / "solvers.md").read_text()


def test_an_option_that_gains_a_plan_is_noticed() -> None:
    with pytest.raises(AssertionError, match="has a plan now"):
        solvers._refusal(SolverCase("DDIM", "DDIMScheduler", "defaults"))


def test_schedulers_that_bend_data_are_refused_in_the_table() -> None:
    from headrace.benchmarks._solver_cases import refused_options
    from headrace.plan.trace import trace

    for case in refused_options()[:2]:
        with pytest.raises(NotLinearError, match="thresholding"):
            trace(case.build(), 12)

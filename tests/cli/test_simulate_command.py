"""`headrace simulate`: from arrivals to tables, JSON and pictures, and what it refuses."""

from __future__ import annotations

import json

import pytest

from headrace.serving.arrivals import Mix, poisson
from headrace.serving.paper import paper_table
from headrace.techniques.guidance.artefact import GuidanceArtefact

FEW = ("--requests", 24, "--steps", "3-5", "--slots", 4)


def test_every_policy_at_several_rates(headrace, tmp_path):
    run = headrace("simulate", "--rates", "0.5,1.5", *FEW, "--out", tmp_path / "new")
    assert (run.status, run.err) == (0, "")
    for word in ("poisson:0.5x", "poisson:1.5x", "sequential", "dynamic", "continuous", "synergetic", "capacity:"):
        assert word in run.out
    names = {f"timeline-{name}.png" for name in ("sequential", "dynamic", "continuous", "synergetic")}
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"simulation.json", "loads.png", *names}
    found = json.loads((tmp_path / "new" / "simulation.json").read_text())
    assert [(one["policy"], one["load"]) for one in found["runs"][:5]] == [
        ("sequential", 0.5), ("dynamic", 0.5), ("continuous", 0.5), ("synergetic", 0.5), ("sequential", 1.5)
    ]  # fmt: skip
    assert found["runs"][0]["rate"] == pytest.approx(0.5 * found["capacity"])
    assert all(one["requests"] == 24 for one in found["runs"])


def test_one_load_as_json_with_deadlines(headrace, tmp_path):
    run = headrace(
        "simulate", "--trace", "burst:2", "--policy", "continuous,no-chunking", *FEW, "--deadline", 5, "--replicas", 2,
        "--guided", 0.5, "--sizes", "512,768x512", "--skip-window", "none", "--json", "--out", tmp_path,
    )  # fmt: skip
    found = json.loads(run.out)
    assert [one["policy"] for one in found["runs"]] == ["continuous", "no-chunking"]
    assert all(0 <= one["deadline_attainment"] <= 1 for one in found["runs"])
    assert found["capacity"] is None
    assert {one["similarity"] for one in found["runs"]} == {None}
    assert "768x512 was not measured" in run.err
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_the_seed_says_all(headrace):
    one, other, third = (
        headrace("simulate", "--trace", "poisson:1x", *FEW, "--seed", seed, "--json").out for seed in (1, 1, 2)
    )
    assert one == other
    assert one != third


def test_a_file_of_arrivals_and_a_table(headrace, tmp_path):
    poisson(10, 2.0, Mix(((1024, 1024),), (2, 3))).save(tmp_path / "arrivals.csv")
    paper_table(sizes=((1024, 1024),)).save(tmp_path / "latency.json")
    arguments = ("simulate", "--trace", tmp_path / "arrivals.csv", "--latency-table", tmp_path / "latency.json")
    run = headrace(*arguments, "--requests", 6, "--policy", "sequential,continuous")
    assert (run.status, run.err) == (0, "")
    assert "arrivals.csv" in run.out
    assert "similarity" not in run.out
    run = headrace(*arguments, "--json")
    assert [one["requests"] for one in json.loads(run.out)["runs"]] == [10] * 4


def test_a_window_that_was_measured_allows_what_it_says(headrace, tmp_path):
    made = GuidanceArtefact(
        model="m", weights="w", solver="s", steps=20, solver_name=None, guidance_scale=4.0, extractor="e",
        extractor_digest="d", centred=True, pictures=4, starts=(0.5,), shares=(0.2, 0.5), similarity=((0.95, 0.8),),
        deviation=((0.0, 0.0),),
    )  # fmt: skip
    made.save(tmp_path / "window.json")
    arguments = ("simulate", "--trace", "poisson:3x", *FEW, "--policy", "synergetic", "--json")
    [found] = json.loads(headrace(*arguments, "--skip-window", tmp_path / "window.json", "--floor", 0.8).out)["runs"]
    assert found["skipped_share"] > 0
    assert found["worst_similarity"] >= 0.8 - 1e-9
    [careful] = json.loads(headrace(*arguments, "--skip-window", tmp_path / "window.json", "--floor", 0.99).out)["runs"]
    assert careful["skipped_share"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--floor", "2"), "tau_min is 2.0"),
        (("--trace", "nowhere.csv"), "nowhere.csv"),
        (("--trace", "poisson"), "names no rate"),
        (("--trace", "poisson:fast"), "'fast'"),
        (("--trace", "burst:-1"), "'-1'"),
        (("--trace", "poisson:inf"), "'inf'"),
        (("--rates", "0.5,,1"), "''"),
        (("--trace", "a.csv", "--rates", "1"), "beside the file"),
        (("--policy", "best"), "no policy 'best'"),
        (("--sizes", "big"), "'big'"),
        (("--sizes", "4"), "8 to 8192"),
        (("--steps", "50-20"), "50 to 20"),
        (("--steps", "many"), "'many'"),
        (("--deadline", "-1"), "-1.0 seconds"),
        (("--latency-table", "nowhere.json"), "nowhere.json"),
        (("--skip-window", "nowhere.json"), "nowhere.json"),
    ],
)
def test_what_is_refused(headrace, tmp_path, options, words):
    run = headrace("simulate", *options, "--out", tmp_path / "out")
    assert run.status == 1
    assert words in run.err
    assert "Traceback" not in run.err
    assert not list((tmp_path / "out").glob("*"))


def test_an_empty_table_is_refused(headrace, tmp_path):
    (tmp_path / "latency.json").write_text('{"kind": "latency table", "sizes": []}')
    run = headrace("simulate", "--latency-table", tmp_path / "latency.json")
    assert run.status == 1
    assert "latency.json" in run.err


def test_times_that_go_back_are_refused_with_their_line(headrace, tmp_path):
    (tmp_path / "trace.csv").write_text("time,height,width,steps\n1,512,512,20\n0.5,512,512,20\n")
    run = headrace("simulate", "--trace", tmp_path / "trace.csv")
    assert run.status == 1
    assert "line 3" in run.err

"""Several settings in one run, resuming after a kill, and pictures a second over runs."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from headrace.cli.app import app
from headrace.cli.evaluate_jobs import Conditions, make_jobs
from headrace.cli.evaluate_settings import Setting, choose_settings, parse_setting
from headrace.cli.evaluate_speed import add_run
from headrace.errors import HeadraceError, OutputError, RequestError, SolverError
from headrace.request import Request
from picture_folders import write_parquet


@pytest.fixture
def headrace(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
        if isinstance(result.exception, HeadraceError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture
def data(tmp_path):
    return write_parquet(tmp_path / "set.parquet", 30, side=16)


def pictures(folder):
    return {path.name: path for path in sorted(folder.glob("[!.]*.png"))}


def test_settings_are_parsed_and_mistakes_named():
    assert parse_setting("ddim:50") == Setting("ddim", 50)
    assert parse_setting(" 1000 ") == Setting(None, 1000)
    assert parse_setting("dpm++2m:20").stem == "dpm++2m-20"
    assert choose_settings([], None, None) == [Setting(None, 20)]
    assert choose_settings([], "ddim", 7) == [Setting("ddim", 7)]
    assert choose_settings(["ddim:5", "10", "ddim:5"], None, None) == [Setting("ddim", 5), Setting(None, 10)]
    for wrong in ("ddim", "ddim:", ":5", "ddim:5:6", "ddim:-1", ""):
        with pytest.raises(RequestError, match="SOLVER:STEPS"):
            parse_setting(wrong)
    with pytest.raises(RequestError, match="both given"):
        choose_settings(["ddim:5"], None, 20)
    with pytest.raises(RequestError, match="steps"):
        parse_setting("ddim:1001").applied_to(Request())
    given = Setting("ddim", 5).applied_to(Request(guidance_scale=2.0, seed=3))
    assert (given.solver, given.steps, given.guidance_scale, given.seed) == ("ddim", 5, 2.0, 3)


def test_classes_are_even_and_more_samples_begin_with_the_same():
    conditions = Conditions(classes=10)
    few, more = (list(make_jobs(Request(seed=5), count, conditions)) for count in (100, 130))
    assert np.bincount([job.request.class_label for job in few]).tolist() == [10] * 10
    assert more[:100] == few
    assert [job.request.seed for job in few] == list(range(5, 105))
    assert conditions.warnings(100) == []
    assert "some have one picture more" in conditions.warnings(101)[0]
    assert "only 4 of the 10 classes" in conditions.warnings(4)[0]


def test_several_settings_are_one_report_each_and_a_comparison(headrace, tiny_model, data, tmp_path):
    common = tiny_model("ddpm"), "--data", data, "-n", 4, "--cache", tmp_path / "features"
    settings = "--setting", "ddim:2", "--setting", "ddpm:3", "--setting", "ddim:1"
    found = json.loads(headrace(*common, *settings, "--out", "reports", "--work", "work", "--json"))
    assert sorted(path.name for path in (tmp_path / "reports").glob("*.json")) == [
        "ddim-1.json", "ddim-2.json", "ddpm-3.json",
    ]  # fmt: skip
    assert [row["name"] for row in found["comparison"]["reports"]] == ["ddim 2", "ddpm 3", "ddim 1"]
    assert [one["cost"]["network_rows_a_picture"] for one in found["reports"]] == [2, 3, 1]
    assert json.loads((tmp_path / "reports" / "comparison" / "table.json").read_text()) == found["comparison"]
    with Image.open(tmp_path / "reports" / "comparison" / "front.png") as plot:
        assert plot.width > 400
    assert len(pictures(tmp_path / "work" / "ddim-2" / "samples")) == 4
    alone = json.loads(headrace(*common, "--solver", "ddim", "--steps", 2, "--out", "alone.json", "--json"))
    assert alone["figures"] == found["reports"][0]["figures"]
    table = headrace(*common, *settings, "--out", "reports", "--work", "work")
    assert table.count("report: ") == 3
    assert "Pareto front" in table


def test_a_setting_that_is_none_is_found_before_any_picture_is_made(headrace, tiny_model, data, tmp_path):
    for settings, kind in ((("ddim:2", "nosuch:3"), SolverError), (("ddim:2", "ddim:0"), RequestError)):
        chosen = [word for setting in settings for word in ("--setting", setting)]
        with pytest.raises(kind):
            headrace(tiny_model("ddpm"), "--data", data, "-n", 4, *chosen, "--work", "work")
    assert not (tmp_path / "work").exists()


def test_a_killed_run_goes_on_where_it_was(headrace, tiny_model, data, tmp_path):
    """kill -9 between two pictures: whole ones are kept, the others made, and all are those of a run in one go."""
    arguments = [tiny_model("ddpm"), "--data", data, "--steps", 40, "--slots", 1, "--work", tmp_path / "work"]
    command = [sys.executable, "-c", "from headrace.cli import main; main()", "evaluate", "-n", "400"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, *map(str, arguments)], env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while len(pictures(tmp_path / "work" / "samples")) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    samples = tmp_path / "work" / "samples"
    kept = {name: path.stat().st_mtime_ns for name, path in pictures(samples).items()}
    assert 3 <= len(kept) < 400
    count = len(kept) + 2
    found = json.loads(headrace(*arguments, "-n", count, "--json"))
    after = pictures(samples)
    assert len(after) == found["figures"][0]["samples"] == count
    assert found["cost"]["images_timed"] == 2
    assert {name: after[name].stat().st_mtime_ns for name in kept} == kept
    headrace(*arguments[:-1], tmp_path / "other", "-n", count)
    for name, path in pictures(tmp_path / "other" / "samples").items():
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(after[name])))


def test_a_cache_that_cannot_be_written_names_its_option(headrace, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--cache"):
        headrace(data, "--data", data, "--cache", tmp_path / "file" / "features")


def test_speed_adds_runs_up_and_never_those_of_other_machines(tmp_path):
    file, cpu, gpu = tmp_path / "speed.json", {"device": "cpu"}, {"device": "gpu"}
    assert add_run(file, 0, 3.0, 1, cpu) == ({}, cpu)
    assert add_run(file, 10, 5.0, 100, cpu)[0]["images_per_second"] == 2.0
    both = add_run(file, 30, 5.0, 80, cpu)
    assert (both[0]["images_timed"], both[0]["images_per_second"], both[0]["peak_memory_bytes"]) == (40, 4.0, 100)
    assert add_run(file, 0, 0.0, 0, gpu) == both
    assert both[1] == cpu
    alone, where = add_run(file, 10, 1.0, 7, gpu)
    assert (alone["images_per_second"], where) == (10.0, gpu)
    file.write_text("[]")
    assert add_run(file, 1, 1.0, 1, cpu)[0]["images_per_second"] == 1.0


def test_a_report_names_the_slots_that_its_pictures_were_timed_with(headrace, tiny_model, data, tmp_path):
    common = tiny_model("ddpm"), "--data", data, "--steps", 1, "-n", 3, "--work", tmp_path / "work", "--json"
    first, again = (json.loads(headrace(*common, "--slots", slots)) for slots in (2, 3))
    assert again["cost"] == first["cost"]
    assert again["settings"]["slots"] == first["settings"]["slots"] == 2
    assert again["machine"] == first["machine"]

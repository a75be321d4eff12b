"""`headrace evaluate` and `headrace compare`, from the command line, on tiny models."""

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fused_models import pixel_model
from headrace.cli.app import app
from headrace.cli.pictures import read_settings
from headrace.errors import DataError, HeadraceError, ModelNotFoundError, OutputError, PlanError, RequestError
from headrace.models.pipelines.pixel import PixelPipeline
from picture_folders import write_folder, write_parquet
from tiny_extractors import build_clip, build_dino


@pytest.fixture
def headrace(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, HeadraceError):
            raise result.exception
        return result

    return run


@pytest.fixture
def data(tmp_path):
    return write_parquet(tmp_path / "set.parquet", 30, side=16)


def measure(headrace, *arguments):
    result = headrace("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_model_is_sampled_measured_and_resumed(headrace, tiny_model, data, tmp_path):
    common = tiny_model("ddpm"), "--data", data, "--steps", 2, "--slots", 3, "--work", tmp_path / "work"
    first = measure(headrace, *common, "-n", 4)
    metrics = {figure["metric"]: figure for figure in first["figures"]}
    assert set(metrics) == {"frechet_distance", "spatial_frechet_distance", "kernel_distance", "precision", "recall"}
    assert (metrics["recall"]["samples"], metrics["recall"]["references"]) == (4, 30)
    assert metrics["recall"]["extractor"] == "colour-gradients"
    assert first["settings"]["steps"] == 2
    assert first["cost"]["network_rows_a_picture"] == 2
    assert first["cost"]["images_timed"] == 4
    assert first["cost"]["images_per_second"] > 0
    assert first["machine"]["torch"]
    assert any("4 samples are fewer" in text for text in first["warnings"])
    with Image.open(first["files"]["grid"]) as grid:
        assert grid.width > 4 * 16
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "samples").glob("*.png")}
    again = measure(headrace, *common, "-n", 6)
    assert len(list((tmp_path / "work" / "samples").glob("*.png"))) == 6
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    assert again["cost"]["images_timed"] == 6
    once_more = measure(headrace, *common, "-n", 6)
    assert once_more["figures"] == again["figures"]
    assert once_more["cost"] == again["cost"]  # nothing was made, so nothing was timed anew


def test_samples_that_share_evaluations(headrace, data, tmp_path):
    model = pixel_model(tmp_path / "fused", (1, 2))
    found = {
        policy: measure(headrace, model, "--data", data, "-n", 4, "--steps", 2, "--fusion", policy)
        for policy in ("1", "2", "tfs")
    }
    assert [one["settings"]["fusion"] for one in found.values()] == list(found)
    macs = {policy: one["cost"]["macs_a_picture"] for policy, one in found.items()}
    assert macs["2"] < 0.6 * macs["1"]
    assert macs["tfs"] == pytest.approx((macs["1"] + macs["2"]) / 2, abs=2)
    with pytest.raises(PlanError, match="K=4"):
        measure(headrace, model, "--data", data, "-n", 4, "--fusion", "4")


def test_prompts_come_from_the_captions_or_a_file_and_classes_take_turns(headrace, tiny_model, data, tmp_path):
    def settings(kind, *more):
        work = tmp_path / f"{kind}-{len(more)}"
        measure(headrace, tiny_model(kind), "--data", data, "-n", 6, "--steps", 1, "--work", work, *more)
        return [read_settings(path) for path in sorted((work / "samples").glob("*.png"))]

    captions = {one["prompt"] for one in settings("sd1")}
    assert captions <= {"a red apple", "a green apple", "a blue apple"}
    assert len(captions) > 1
    (tmp_path / "prompts.txt").write_text("one\n\n two \n")
    own = settings("sd1", "--prompts", tmp_path / "prompts.txt")
    assert [one["prompt"] for one in own] == ["one", "two"] * 3
    assert [one["seed"] for one in own] == list(range(6))
    assert [one["class_label"] for one in settings("ddpm-classes")] == [0, 1, 2, 3, 4, 0]
    with pytest.raises(RequestError, match="takes no prompts"):
        settings("ddpm", "--prompts", tmp_path / "prompts.txt")


def test_a_folder_with_clip_and_pairs(headrace, data, tmp_path):
    pictures = write_folder(tmp_path / "pictures", 6, side=16)
    references = write_folder(tmp_path / "references", 4, side=16)
    clip, dino = build_clip(tmp_path / "clip"), build_dino(tmp_path / "dino")
    for number in range(6):
        (pictures / f"{number:04d}.txt").write_text("a red apple")
    (pictures / "9.png").write_bytes(b"broken")
    arguments = pictures, "--data", data, "--clip", clip, "--dino", dino, "--reference", references
    found = measure(headrace, *arguments, "--out", tmp_path / "r.json")
    by_name = {(figure["metric"], figure["extractor"]): figure for figure in found["figures"]}
    assert by_name["clip_score", "clip"]["samples"] == 6
    assert by_name["similarity", "dinov2"]["value"] == pytest.approx(1.0)
    assert by_name["psnr", None]["samples"] == 4
    assert ("frechet_distance", "clip") in by_name
    assert ("frechet_distance", "dinov2") in by_name
    assert found["cost"] == {}
    assert found["skipped_count"] == 1
    assert "9.png" in found["skipped"][0]
    assert json.loads((tmp_path / "r.json").read_text()) == found


def test_the_same_requests_in_other_steps_are_pairs(headrace, tiny_model, data, tmp_path):
    for steps in (1, 2):
        measure(
            headrace, tiny_model("ddpm"), "--data", data, "--steps", steps, "-n", 3, "--work", tmp_path / str(steps)
        )
    found = measure(headrace, tmp_path / "1" / "samples", "--reference", tmp_path / "2" / "samples")
    figures = {figure["metric"]: figure for figure in found["figures"]}
    assert set(figures) == {"psnr", "ssim"}
    assert figures["psnr"]["samples"] == 3
    assert 0 < figures["psnr"]["value"] < 60


def test_a_picture_that_fails_is_left_out_and_said(headrace, tiny_model, data, tmp_path, monkeypatch):
    calls = []
    denoise = PixelPipeline.denoise

    def third_is_bad(self, rows):
        calls.append(len(rows))
        return torch.full_like(rows.sample, torch.nan) if len(calls) == 4 else denoise(self, rows)

    monkeypatch.setattr(PixelPipeline, "denoise", third_is_bad)  # the first call counts the cost
    found = measure(headrace, tiny_model("ddpm"), "--data", data, "-n", 6, "--steps", 1, "--slots", 1)
    assert found["settings"]["failed"] == 1
    assert found["figures"][0]["samples"] == 5
    assert any("1 of 6 pictures failed" in text for text in found["warnings"])


def test_self_check(headrace, tmp_path):
    write_parquet(tmp_path / "set.parquet", 60)
    found = measure(headrace, "--self-check", "--data", tmp_path / "set.parquet")
    assert [check["passed"] for check in found["self_checks"]] == [True] * 4
    more = write_folder(tmp_path / "more", 40, first=500)
    table = headrace("evaluate", "--self-check", "--data", tmp_path / "set.parquet", "--held-out", more, "-n", 30)
    assert table.stdout.count("as expected") == 5
    assert "30 : 60" in table.stdout
    assert "the floor for samples" in table.stdout
    alike = write_folder(tmp_path / "noise", 40)
    for path in alike.iterdir():
        Image.effect_noise((24, 24), 100).convert("RGB").save(path)
    failed = headrace("evaluate", "--self-check", "--data", alike)
    assert failed.exit_code == 1
    assert "NOT as expected" in failed.stdout


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["model"], RequestError, "nothing to compare with"),
        (["--data", "set.parquet"], RequestError, "nothing to evaluate"),
        (["--self-check"], RequestError, "needs a data set"),
        (["model", "--data", "set.parquet", "--held-out", "set.parquet"], RequestError, "--self-check"),
        (["set.parquet", "--data", "set.parquet", "--extractor", "inceptoin"], HeadraceError, "mean inception-v3-fid"),
        (["model", "--data", "set.parquet", "-n", "1"], RequestError, "at least 2"),
        (["model", "--data", "set.parquet", "--steps", "0"], RequestError, "steps"),
        (["model", "--data", "set.parquet", "--dtype", "int8"], RequestError, "int8"),
        (["model", "--data", "nowhere"], DataError, "nowhere"),
        (["model", "--data", "set.parquet"], ModelNotFoundError, "no model 'model'"),
        (["set.parquet", "--data", "set.parquet", "--extractor", "vgg"], HeadraceError, "no extractor 'vgg'"),
        (["set.parquet", "--data", "set.parquet", "--inception-weights", "a.pth"], HeadraceError, "pickled"),
        (["set.parquet", "--data", "set.parquet", "--reference", "set.parquet"], RequestError, "not a folder"),
    ],
)
def test_mistakes_are_found_before_any_work(headrace, data, tmp_path, arguments, kind, message):
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(kind, match=message):
        headrace("evaluate", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == before


def test_compare(headrace, tiny_model, data, tmp_path):
    for steps in (1, 3):
        measure(headrace, tiny_model("ddpm"), "--data", data, "--steps", steps, "-n", 5, "--out", f"{steps}.json")
    table = headrace("compare", "1.json", "3.json", "--plot", "front.png")
    assert table.exit_code == 0, table.output
    assert "Pareto front" in table.stdout
    with Image.open("front.png") as plot:
        assert plot.width > 400
    found = json.loads(headrace("compare", "1.json", "3.json", "--json").stdout)
    assert [row["name"] for row in found["reports"]] == ["1 steps", "3 steps"]
    assert all(row["figures"]["frechet_distance [colour-gradients]"] > 0 for row in found["reports"])
    table = headrace("compare", "1.json", "3.json", "--metric", "kernel_distance")
    assert "Pareto front: " in table.stdout
    with pytest.raises(DataError, match="'fid'"):
        headrace("compare", "1.json", "3.json", "--metric", "fid")
    with pytest.raises(OutputError, match=r"front\.jpg"):
        headrace("compare", "1.json", "3.json", "--plot", "front.jpg")
    with pytest.raises(DataError, match="at least two"):
        headrace("compare", "1.json")

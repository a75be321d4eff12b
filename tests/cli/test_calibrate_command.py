"""`headrace calibrate blocks` and `headrace generate --block-cache`, on tiny random models."""

from __future__ import annotations

import csv
import json

import pytest
from PIL import Image

from headrace.cli.block_label import block_label
from headrace.cli.calibrate_options import shipped_prompts
from headrace.cli.pictures import read_settings
from headrace.techniques.block_caching.artefact import BlockCacheArtefact

FILES = ["lifetimes.png", "profile.csv", "profile.png", "schedule.json"]
STEPS = 4


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    file.write_text("red apple\n\nblue boat\n")
    return file


@pytest.fixture
def calibrated(headrace, tiny_model, prompts, tmp_path):
    """The folder of a calibration of the tiny Stable Diffusion, and what the command printed."""
    out = tmp_path / "calibrated"
    run = headrace(
        "calibrate", "blocks", tiny_model("sd1"), "--solver", "dpm++2m", "--steps", STEPS, "--guidance", 3,
        "--prompts", prompts, "--seeds", 1, "--saving", 0.03, "--out", out, "--batch", 2,
    )  # fmt: skip
    assert (run.status, run.err) == (0, "")
    return out, run.out


def test_one_command_measures_and_writes_everything(calibrated):
    out, printed = calibrated
    assert sorted(file.name for file in out.iterdir()) == FILES
    artefact = BlockCacheArtefact.load(out / "schedule.json")
    assert (artefact.steps, artefact.solver_name, artefact.images, artefact.guidance_scale) == (
        STEPS,
        "dpm++2m",
        2,
        3.0,
    )
    assert artefact.saving >= 0.03
    for name in ("profile.png", "lifetimes.png"):
        with Image.open(out / name) as picture:
            assert len(picture.convert("RGB").getcolors(10**6)) > 20
    with (out / "profile.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == (STEPS - 1) * len(artefact.profiled)
    first = next(line for line in lines if line["block"] == artefact.blocks[0])
    assert float(first["change"]) == artefact.change[0][artefact.profiled.index(artefact.blocks[0])]
    assert block_label(artefact.blocks[0]) in printed
    assert f"{artefact.saving:.1%} of the network's work is left out" in printed


def test_another_threshold_is_tried_without_measuring(headrace, calibrated):
    out, _ = calibrated
    run = headrace("calibrate", "blocks", "--from", out / "schedule.json", "--delta", 0, "--kind", "resnet", "--json")
    assert run.status == 0
    told = json.loads(run.out)
    assert (told["delta"], told["saving"], told["speedup_bound"]) == (0, 0, 1)
    assert sorted(file.name for file in (out / "resnet-0").iterdir()) == FILES
    other = BlockCacheArtefact.load(told["schedule"])
    assert all("resnets" in block for block in other.blocks)
    assert other.change == BlockCacheArtefact.load(out / "schedule.json").change
    again = headrace("calibrate", "blocks", "--from", out / "schedule.json", "--out", out)
    assert again.status == 1
    assert "is where schedule.json lies" in again.err


@pytest.mark.parametrize("kind", ["all", "branch"])
def test_displacement_is_measured_where_it_is_the_criterion(headrace, tiny_model, tmp_path, kind):
    asked = ["--kind", kind, "--criterion", "displacement", "--saving", "0.2", "--steps", "3", "--seeds", "1"]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("red apple\nsnowman\n")
    model, out = tiny_model("sd1"), tmp_path / "together"
    told = headrace("calibrate", "blocks", model, *asked, "--prompts", prompts, "--out", out)
    assert told.status == 0, told.err
    assert "displacement 0." in told.out
    schedule = json.loads((out / "schedule.json").read_text())
    assert schedule["criterion"] == "displacement"
    assert len(schedule["displacement"]) == len(schedule["change"])
    assert len(set(schedule["compute"])) == 2  # all blocks of a row, or none
    assert schedule["saving"] >= 0.2
    kinds = dict(zip(schedule["profiled"], schedule["kinds"], strict=True))
    assert {kinds[block] for block in schedule["blocks"]} == (
        {"branch"} if kind == "branch" else {"transformer", "resnet"}
    )
    command = ("generate", "red apple", "--model", model, "--out", tmp_path / "pictures")
    assert headrace(*command, "--block-cache", out / "schedule.json").status == 0


def test_generate_takes_solver_and_steps_from_the_schedule(headrace, tiny_model, calibrated, tmp_path):
    out, _ = calibrated
    command = ("generate", "red apple", "--model", tiny_model("sd1"), "--out", tmp_path / "pictures")
    cached = headrace(*command, "--block-cache", out / "schedule.json")
    plain = headrace(*command, "--solver", "dpm++2m", "--steps", STEPS)
    assert (cached.status, plain.status) == (0, 0), cached.err + plain.err
    found = {(read_settings(file) or {}).get("block_cache"): file for file in (tmp_path / "pictures").iterdir()}
    artefact = BlockCacheArtefact.load(out / "schedule.json")
    assert set(found) == {None, artefact.identity}
    settings = [read_settings(file) for file in found.values()]
    assert [one["solver"] for one in settings] == ["dpm++2m"] * 2
    assert [one["steps"] for one in settings] == [STEPS] * 2
    pixels = [Image.open(file).tobytes() for file in found.values()]
    assert pixels[0] != pixels[1]


def test_generate_warns_where_the_schedule_is_stretched_and_refuses_other_solvers(
    headrace, tiny_model, calibrated, tmp_path
):
    out, _ = calibrated
    command = (
        "generate", "a", "--model", tiny_model("sd1"), "--out", tmp_path / "pictures", "--block-cache",
        out / "schedule.json",
    )  # fmt: skip
    stretched = headrace(*command, "--steps", 7)
    assert stretched.status == 0
    assert "warning: the cache schedule was made for 4 rows and is stretched to 7" in stretched.err
    refused = headrace(*command, "--solver", "ddim")
    assert refused.status == 1
    assert "made with dpm++2m" in refused.err
    other = headrace("generate", "a", "--model", tiny_model("sd2"), *command[4:])
    assert other.status == 1
    assert "was made for sd1" in other.err


@pytest.mark.parametrize(("kind", "images"), [("ddpm-classes", 32), ("dit", 32), ("ddim", 32)])
def test_models_without_text_take_classes_in_turn_or_seeds(headrace, tiny_model, tmp_path, kind, images):
    run = headrace(
        "calibrate", "blocks", tiny_model(kind), "--steps", 2, "--seeds", 1, "--out", tmp_path, "--batch", 16, "--json"
    )
    assert run.status == 0, run.err
    assert json.loads(run.out)["images"] == images


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no model was named"]),
        (["nowhere"], ["'nowhere'"]),
        (["{sd1}", "--delta", "-1"], ["delta is -1"]),
        (["{sd1}", "--delta", "nan"], ["delta is nan"]),
        (["{sd1}", "--delta", "1", "--saving", "0.1"], ["both"]),
        (["{sd1}", "--saving", "2"], ["saving of 2"]),
        (["{sd1}", "--saving", "0.9"], ["cannot be reached", "at most"]),
        (["{sd1}", "--kind", "spiral"], ["'spiral'", "transformer, resnet, all"]),
        (["{sd1}", "--steps", "1"], ["--steps 1", "at least 2"]),
        (["{sd1}", "--seeds", "0"], ["--seeds 0"]),
        (["{sd1}", "--batch", "0"], ["--batch 0"]),
        (["{sd1}", "--solver", "eular"], ["eular"]),
        (["{sd1}", "--guidance", "nan"], ["guidance_scale"]),
        (["{sd1}", "--dtype", "float8"], ["float8"]),
        (["{sd1}", "--prompts", "{empty}"], ["empty.txt", "prompts"]),
        (["{sd1}", "--prompts", "nowhere.txt"], ["nowhere.txt"]),
        (["{ddim}", "--prompts", "{prompts}"], ["takes no prompts"]),
        (["{dit}", "--kind", "resnet"], ["no resnet blocks"]),
        (["--from", "nowhere.json"], ["nowhere.json"]),
        (["--from", "{empty}"], ["not JSON"]),
        (["{sd1}", "--from", "{empty}"], ["MODEL", "--from"]),
        (["--from", "{empty}", "--steps", "5"], ["--steps", "--from"]),
    ],
)
def test_mistakes_are_one_line_before_any_work(headrace, tiny_model, prompts, tmp_path, arguments, words):
    (tmp_path / "empty.txt").write_text("\n \n")
    places = {kind: tiny_model(kind) for kind in ("sd1", "ddim", "dit")}
    places |= {"empty": tmp_path / "empty.txt", "prompts": prompts}
    run = headrace("calibrate", "blocks", *(text.format(**places) for text in arguments), "--out", tmp_path / "out")
    assert run.status == 1
    (line,) = run.err.splitlines()
    assert line.startswith("error: ")
    assert not [word for word in words if word not in line], line
    assert not list(tmp_path.glob("out/*"))


def test_there_are_32_shipped_prompts():
    lines = shipped_prompts().read_text(encoding="utf-8").splitlines()
    assert len(set(lines)) == len(lines) == 32
    assert all(line.strip() == line and 0 < len(line) < 60 for line in lines)


def test_labels_of_blocks():
    assert block_label("down_blocks.1.attentions.0") == "down 1.0"
    assert block_label("mid_block.resnets.1") == "mid 1 res"
    assert block_label("up_blocks.3.resnets.2") == "up 3.2 res"
    assert block_label("transformer_blocks.17") == "block 17"
    assert block_label("something.else") == "something.else"

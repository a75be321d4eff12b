"""`headrace calibrate guidance`, on tiny random models."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from headrace.techniques.guidance.artefact import GuidanceArtefact
from tiny_extractors import build_dino


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    file.write_text("red apple\nblue boat\n")
    return file


def test_one_command_measures_and_writes_everything(headrace, tiny_model, prompts, tmp_path):
    out = tmp_path / "out"
    run = headrace(
        "calibrate", "guidance", tiny_model("sd1"), "--solver", "ddim", "--steps", 4, "--guidance", 5, "--starts", 2,
        "--prompts", prompts, "--out", out,
    )  # fmt: skip
    assert (run.status, run.err) == (0, "")
    assert sorted(file.name for file in out.iterdir()) == ["similarity.png", "window.json"]
    artefact = GuidanceArtefact.load(out / "window.json")
    assert (artefact.model, artefact.solver_name, artefact.steps, artefact.guidance_scale) == ("sd1", "ddim", 4, 5.0)
    assert (artefact.extractor, artefact.centred, artefact.pictures) == ("colour-gradients", True, 2)
    assert artefact.starts == (0.0, 0.75)
    assert f"{artefact.similarity[0][0]:.3f}" in run.out
    assert run.out.count("tau 0.") == 3
    with Image.open(out / "similarity.png") as picture:
        assert len(picture.convert("RGB").getcolors(10**6)) > 20


def test_features_of_a_dino_folder_are_compared_as_they_are(headrace, tiny_model, tmp_path):
    run = headrace(
        "calibrate", "guidance", tiny_model("dit"), "--steps", 2, "--quick", "--dino", build_dino(tmp_path / "dino"),
        "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert run.status == 0, run.err
    told = json.loads(run.out)
    assert (told["extractor"], told["pictures"]) == ("dinov2", 8)
    artefact = GuidanceArtefact.load(told["window"])
    assert not artefact.centred
    assert {name: told[name] for name in artefact.figures} == artefact.figures


def test_the_mean_is_left_in_where_that_is_asked_for(headrace, tiny_model, prompts, tmp_path):
    similar = []
    for option in ("--centred", "--raw"):
        run = headrace(
            "calibrate", "guidance", tiny_model("sd1"), "--steps", 2, "--starts", 2, "--prompts", prompts, option,
            "--out", tmp_path / option,
        )  # fmt: skip
        assert run.status == 0, run.err
        artefact = GuidanceArtefact.load(tmp_path / option / "window.json")
        assert artefact.centred == (option == "--centred")
        assert ("less their mean" in run.out) == artefact.centred
        similar.append(artefact.similarity[0][-1])
    assert similar[0] < similar[1] < 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["'nowhere'"]),
        (["{ddim}"], ["no unconditional branch"]),
        (["{sd1}", "--guidance", "1"], ["scale of 1"]),
        (["{sd1}", "--starts", "1"], ["--starts 1", "at least 2"]),
        (["{sd1}", "--steps", "1"], ["--steps 1", "at least 2"]),
        (["{sd1}", "--prompts", "nowhere.txt"], ["nowhere.txt"]),
        (["{sd1}", "--dino", "nowhere"], ["'nowhere'"]),
        (["{sd1}", "--extractor", "colours"], ["'colours'", "colour-gradients"]),
    ],
)
def test_mistakes_are_one_line_before_any_work(headrace, tiny_model, tmp_path, arguments, words):
    places = {kind: tiny_model(kind) for kind in ("sd1", "ddim")}
    run = headrace("calibrate", "guidance", *(text.format(**places) for text in arguments), "--out", tmp_path / "out")
    assert run.status == 1
    (line,) = run.err.splitlines()
    assert line.startswith("error: ")
    assert not [word for word in words if word not in line], line
    assert not list(tmp_path.glob("out/*"))

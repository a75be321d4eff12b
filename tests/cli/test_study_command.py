"""`headrace study steps`: from a model to files, and what it refuses."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

FILES = ["steps.csv", "steps.json", "steps.png"]
FEW = ("--steps", "2,3", "--pictures", 2, "--batch", 2, "--solver", "ddim")


@pytest.fixture
def pictures(tmp_path, tiny_model):
    """A folder of captioned pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in ("red apple", "blue boat", "green tree", "old house"):
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name.replace(' ', '_')}.png")
    return folder


def test_a_text_model_is_studied_against_real_pictures(headrace, tiny_model, pictures, tmp_path):
    out = tmp_path / "study"
    run = headrace("study", "steps", tiny_model("sd1"), *FEW, "--quick", "--data", pictures, "--out", out)
    assert (run.status, run.err) == (0, "")
    assert sorted(file.name for file in out.iterdir()) == FILES
    with (out / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["family"], row["steps"]) for row in rows] == [
        ("plain", "2"), ("plain", "3"), ("PostDiff", "2"), ("PostDiff", "3")
    ]  # fmt: skip
    assert int(rows[2]["macs"]) < int(rows[0]["macs"])
    assert {"recall", "frechet", "psnr"} <= set(rows[0])
    assert "PostDiff" in run.out
    assert str(out) in run.out


def test_a_model_without_text_and_the_answer_as_json(headrace, tiny_model, tmp_path):
    run = headrace("study", "steps", tiny_model("ddpm"), *FEW, "--out", tmp_path, "--json")
    assert run.status == 0
    found = json.loads(run.out)
    assert {point["family"] for point in found["points"]} >= {"plain", "mixed resolution", "PostDiff"}
    assert any("guidance cut-off is left out" in note for note in found["notes"])
    assert found == json.loads((tmp_path / "steps.json").read_text())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--steps", "few"), "no list of whole numbers"),
        (("--steps", "3"), "no curve"),
        (("--data", "nowhere.parquet"), "nowhere.parquet"),
        (("--data", "a", "--prompts", "b"), "Leave one out"),
        (("--dtype", "int8"), "int8"),
    ],
)
def test_what_is_refused(headrace, tiny_model, tmp_path, options, words):
    run = headrace("study", "steps", tiny_model("sd1"), "--out", tmp_path, *options)
    assert run.status == 1
    assert words in run.err

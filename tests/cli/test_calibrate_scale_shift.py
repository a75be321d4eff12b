"""`headrace calibrate scale-shift`, and `headrace generate` with what it wrote, on a tiny random model."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from headrace.cli.pictures import read_settings
from headrace.techniques.block_caching.network import BlockCache

STEPS = 4


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("red apple\nblue boat\n")
    return file


@pytest.fixture
def schedule(headrace, tiny_model, prompts, tmp_path):
    """The file of a cache schedule of the tiny Stable Diffusion."""
    run = headrace(
        "calibrate", "blocks", tiny_model("sd1"), "--solver", "ddim", "--steps", STEPS, "--guidance", 3,
        "--prompts", prompts, "--seeds", 1, "--saving", 0.03, "--out", tmp_path / "calibrated", "--batch", 2,
    )  # fmt: skip
    assert run.status == 0, run.err
    return tmp_path / "calibrated" / "schedule.json"


def test_one_command_trains_and_generate_finds_what_it_wrote(headrace, tiny_model, schedule, prompts, tmp_path):
    model, pictures = tiny_model("sd1"), tmp_path / "pictures"
    generate = ("generate", "red apple", "--model", model, "--block-cache", schedule, "--out", pictures)
    assert headrace(*generate).status == 0
    train = ("calibrate", "scale-shift", schedule, "--model", model, "--prompts", prompts, "--batch", 1)
    run = headrace(*train, "--iterations", 4, "--learning-rate", 1e-3, "--json")
    assert run.status == 0, run.err
    told = json.loads(run.out)
    assert told["iterations"] == 4
    assert told["loss"] > 0
    assert told["distance"] != pytest.approx(1.0, abs=1e-6)
    assert {"log.csv", "loss.png", "samples", "checkpoints"} <= {
        file.name for file in (schedule.parent / "scale-shift").iterdir()
    }
    assert headrace(*generate).status == 0
    cache = BlockCache.load(schedule)
    found = {(read_settings(file) or {})["block_cache"]: Image.open(file).tobytes() for file in pictures.iterdir()}
    assert set(found) == {cache.artefact.identity, cache.identity}
    assert found[cache.artefact.identity] != found[cache.identity]

    again = headrace(*train, "--iterations", 6)
    assert again.status == 1
    assert "--resume" in again.err
    longer = headrace(*train, "--iterations", 6, "--resume", "--json")
    assert json.loads(longer.out)["iterations"] == 6
    prompts.write_text("green boat\n")
    other = headrace(*train, "--iterations", 8, "--resume")
    assert other.status == 1
    assert "another recipe" in other.err


def test_what_does_not_fit_is_refused_before_any_work(headrace, tiny_model, schedule, prompts, tmp_path):
    both = headrace("calibrate", "scale-shift", schedule, "--prompts", prompts, "--data", prompts)
    assert both.status == 1
    assert "Give one of them" in both.err
    other = headrace("calibrate", "scale-shift", schedule, "--model", tiny_model("sd2"))
    assert other.status == 1
    assert "was made for" in other.err
    (tmp_path / "broken.json").write_text("{")
    assert "not JSON" in headrace("calibrate", "scale-shift", tmp_path / "broken.json").err
    assert not (schedule.parent / "scale_shift.safetensors").exists()
    (schedule.parent / "scale_shift.safetensors").write_bytes(b"nothing")
    stale = headrace(
        "generate", "red apple", "--model", tiny_model("sd1"), "--block-cache", schedule, "--out", tmp_path / "pictures"
    )
    assert stale.status == 1
    assert "scale_shift.safetensors" in stale.err

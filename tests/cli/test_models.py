import json
import shutil

import torch

from headrace.models.pipelines.loading import load


def test_what_is_listed_without_loading_is_what_loading_finds(headrace, tiny_model):
    kinds = ("sd1", "sdxl", "pixart", "dit", "ldm", "ddpm-classes")
    folder = tiny_model(kinds[0]).parent
    for kind in kinds:
        tiny_model(kind)
    listing = {row["name"]: row for row in json.loads(headrace("models", "--dir", folder, "--json").out)}
    for kind in kinds:
        row, pipeline = listing[kind], load(tiny_model(kind))
        parts = pipeline.components.components.values()
        counted = sum(p.numel() for part in parts if isinstance(part, torch.nn.Module) for p in part.parameters())
        assert row["error"] is None
        assert row["family"] == pipeline.family
        assert tuple(row["default_size"]) == pipeline.default_size
        assert row["solver"] == type(pipeline.components.scheduler).__name__
        assert row["parameters"] == counted
        assert row["bytes"] == sum(file.stat().st_size for file in tiny_model(kind).rglob("*") if file.is_file())


def test_broken_models_are_listed_with_what_is_wrong(headrace, tiny_model, tmp_path):
    shutil.copytree(tiny_model("sd1"), tmp_path / "cut")
    (tmp_path / "cut" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"half")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_index.json").write_text('{"_class_name": "MarigoldPipeline"}')
    (tmp_path / "no-model").mkdir()
    rows = {row["name"]: row for row in json.loads(headrace("models", "--dir", tmp_path, "--json").out)}
    assert "diffusion_pytorch_model.safetensors" in rows["cut"]["error"]
    assert "MarigoldPipeline" in rows["other"]["error"]
    assert "no-model" not in rows
    listed = headrace("models", "--dir", tmp_path)
    assert listed.status == 0
    assert "MarigoldPipeline" in listed.out


def test_the_folder_may_come_from_the_environment(headrace, tiny_model, monkeypatch):
    monkeypatch.setenv("HEADRACE_MODELS", str(tiny_model("ddim")))
    assert "ddim" in {row["name"] for row in json.loads(headrace("models", "--json").out)}
    monkeypatch.setenv("HEADRACE_MODELS", "/nowhere")
    assert "'/nowhere' is not a folder" in headrace("models").err


def test_fingerprint_follows_weights_and_configuration(tiny_model, tmp_path):
    from headrace.models.pipelines.fingerprint import fingerprint
    from headrace.models.pipelines.folder import inspect

    one, two = tiny_model("sd1"), shutil.copytree(tiny_model("sd1"), tmp_path / "elsewhere")
    assert fingerprint(inspect(one)) == fingerprint(inspect(two))
    weights = two / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert fingerprint(inspect(one)) != fingerprint(inspect(two))

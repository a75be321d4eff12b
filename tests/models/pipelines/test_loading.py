import json
import shutil

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

import tiny_models
from headrace.errors import ModelError, UnsupportedModelError
from headrace.models.pipelines import latent, loading, pixel, text
from headrace.models.pipelines.folder import inspect

ADAPTERS = {
    "ddpm": (pixel.PixelPipeline, (16, 16), 2),
    "ddim": (pixel.PixelPipeline, (16, 16), 2),
    "ddpm-classes": (pixel.PixelPipeline, (16, 16), 2),
    "ldm": (latent.LatentDiffusionPipeline, (16, 16), 4),
    "dit": (latent.DiTPipeline, (64, 64), 16),
    "sd1": (text.StableDiffusionPipeline, (64, 64), 8),
    "sd2": (text.StableDiffusionPipeline, (64, 64), 8),
    "lcm": (text.LatentConsistencyPipeline, (64, 64), 8),
    "sdxl": (text.StableDiffusionXLPipeline, (64, 64), 8),
    "pixart": (text.PixArtPipeline, (64, 64), 16),
    "pixart-128": (text.PixArtPipeline, (1024, 1024), 16),
}


def set_in(file, **values):
    content = json.loads(file.read_text())
    content.update(values)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_every_family_loads_with_its_adapter(tiny_pipeline, kind):
    adapter, size, multiple = ADAPTERS[kind]
    pipeline = tiny_pipeline(kind)
    assert type(pipeline) is adapter
    assert pipeline.name == kind
    assert pipeline.default_size == size
    assert pipeline.size_multiple == multiple
    assert pipeline.device.type == "cpu"
    parts = [part for part in pipeline.components.components.values() if isinstance(part, torch.nn.Module)]
    assert not any(part.training for part in parts)
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_weights_are_those_of_the_files(tiny_model, tiny_pipeline, kind):
    pipeline = tiny_pipeline(kind)
    folder = tiny_model(kind) / ("transformer" if hasattr(pipeline.components, "transformer") else "unet")
    saved = load_file(folder / "diffusion_pytorch_model.safetensors")
    loaded = pipeline.network.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)


@pytest.mark.parametrize("kind", ["ldm", "sdxl", "pixart"])
def test_dtype_is_an_argument(tiny_model, kind):
    pipeline = loading.load(tiny_model(kind), dtype=torch.bfloat16)
    assert pipeline.dtype == torch.bfloat16
    parts = [part for part in pipeline.components.components.values() if isinstance(part, torch.nn.Module)]
    assert {next(part.parameters()).dtype for part in parts} == {torch.bfloat16}


def test_tiny_models_are_the_same_every_time(tiny_model, tmp_path):
    again = tiny_models.build("sd1", tmp_path / "again")
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        one, other = (load_file(folder / f"{part}.safetensors") for folder in (tiny_model("sd1"), again))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_published_folder_declares_the_transformer_by_its_old_class(tiny_model, tmp_path):
    for kind, adapter in (("dit", latent.DiTPipeline), ("pixart", text.PixArtPipeline)):
        folder = shutil.copytree(tiny_model(kind), tmp_path / kind)
        set_in(folder / "model_index.json", transformer=["diffusers", "Transformer2DModel"])
        set_in(folder / "transformer" / "config.json", _class_name="Transformer2DModel")
        assert type(loading.load(folder)) is adapter


def test_parts_that_no_picture_depends_on_are_not_loaded(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model("sd1"), tmp_path / "checked")
    set_in(
        folder / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
        requires_safety_checker=True,
    )
    components = loading.load(folder).components
    assert components.safety_checker is None
    assert components.feature_extractor is None


def half_precision(folder, target, parts):
    """A copy of the folder whose `parts` have their weights in the fp16 variant only."""
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float16, safety_checker=None)
    shutil.copytree(folder, target)
    for part in parts:
        for file in (target / part).glob("*.safetensors"):
            file.unlink()
        getattr(pipeline, part).save_pretrained(target / part, variant="fp16")
    return target


@pytest.mark.parametrize("parts", [("unet", "vae", "text_encoder"), ("unet",)], ids=["all", "one"])
def test_fp16_variants_load_into_any_dtype(tiny_model, tmp_path, parts):
    folder = half_precision(tiny_model("sd1"), tmp_path / "half", parts)
    assert inspect(folder).variant == ("fp16" if len(parts) == 3 else None)
    halves = load_file(folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    for dtype in (torch.float16, torch.float32):
        pipeline = loading.load(folder, dtype=dtype)
        assert pipeline.dtype == dtype
        assert torch.equal(pipeline.network.state_dict()["conv_in.weight"], halves["conv_in.weight"].to(dtype))


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_in_shards(tiny_model, tmp_path, variant):
    folder = shutil.copytree(tiny_model("sd1"), tmp_path / "shards")
    unet = loading.load(folder).network
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="200KB", variant=variant)
    shards = sorted((folder / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    loaded = loading.load(folder).network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in unet.state_dict().items())
    shards[1].unlink()
    with pytest.raises(ModelError, match=shards[1].name):
        loading.load(folder)


def test_the_name_is_the_folders_own_even_for_a_relative_path(tiny_model, monkeypatch):
    monkeypatch.chdir(tiny_model("ddpm"))
    assert loading.load(".").name == "ddpm"


@pytest.mark.parametrize("device", ["quantum", "cuda:99"])
def test_a_device_that_is_not_there(tiny_model, device):
    with pytest.raises(ModelError, match=device) as caught:
        loading.load(tiny_model("ddpm"), device=device)
    assert "Use cpu" in caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "part", "setting"),
    [
        ("ddpm", "unet", {"sample_size": None}),
        ("ddpm", "unet", {"class_embed_type": "identity"}),
        ("ldm", "unet", {"class_embed_type": "identity"}),
        ("ldm", "unet", {"in_channels": 5}),
        ("sd1", "unet", {"sample_size": None}),
        ("sd1", "unet", {"num_class_embeds": 3}),
        ("sd1", "unet", {"in_channels": 9}),  # inpainting
        ("sdxl", "unet", {"addition_embed_type": None}),
        ("dit", "transformer", {"in_channels": 8}),
        ("pixart", "transformer", {"in_channels": 8}),
    ],
)
def test_networks_with_other_inputs_are_refused(tiny_model, tiny_pipeline, tmp_path, kind, part, setting):
    network = getattr(tiny_pipeline(kind).components, part)
    folder = shutil.copytree(tiny_model(kind), tmp_path / kind)
    type(network).from_config({**network.config, **setting}).save_pretrained(folder / part)
    with pytest.raises(UnsupportedModelError, match=next(iter(setting))):
        loading.load(folder)


def test_loading_says_nothing(tiny_model, capfd):
    loading.load(tiny_model("sdxl"))
    assert capfd.readouterr() == ("", "")

"""Networks of Headrace's own as parts of a folder: those that are registered load, nothing else of the library does."""

import json
import shutil

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler

import headrace
from headrace.errors import CorruptModelError, UnsupportedModelError
from headrace.models.pipelines.folder import inspect
from headrace.models.pipelines.loading import load, load_components
from tiny_networks import pixel_unet


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    with torch.no_grad():
        network = headrace.FuseBatchUNet2DModel([1, 2], dict(pixel_unet().config))
        DDPMPipeline(network, DDPMScheduler()).save_pretrained(tmp_path / "fused")
    return tmp_path / "fused"


def edit(folder, entry):
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"unet": entry}))


def test_a_folder_names_the_network_by_its_registered_name(folder):
    found = inspect(folder)
    assert (found.libraries["unet"], found.parts["unet"]) == ("headrace", "FuseBatchUNet2DModel")
    components = load_components(found, torch.bfloat16)
    assert type(components) is DDPMPipeline
    assert type(components.unet) is headrace.FuseBatchUNet2DModel
    assert components.unet.dtype == torch.bfloat16
    assert not components.unet.training
    assert components.name_or_path == str(folder)


def test_it_becomes_a_pipeline_of_its_family(folder):
    pipeline = load(folder)
    assert pipeline.family == "pixel"
    assert pipeline.default_size == (16, 16)
    assert pipeline.latent_shape(16, 16) == (3, 16, 16)
    assert pipeline.fusion_factors == (1, 2)


@pytest.mark.parametrize("name", ["NoSuchNetwork", "engine", "errors", "__getattr__", "annotations"])
def test_nothing_else_of_the_library_loads(folder, name):
    edit(folder, ["headrace", name])
    with pytest.raises(UnsupportedModelError, match="FuseBatchUNet2DModel"):
        load(folder)


def test_weights_that_are_missing_are_named(folder):
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"factors": [1, 4]}))
    with pytest.raises(CorruptModelError, match=r"networks\.4"):
        load(folder)


def with_fused_network(source, destination, **options):
    """A copy of a folder with a network for K = 2, in its configuration alone, in the place of its own."""
    shutil.copytree(source, destination)
    config = destination / "unet" / "config.json"
    unet = {name: value for name, value in json.loads(config.read_text()).items() if not name.startswith("_")}
    fused = {"_class_name": "FuseBatchUNet2DConditionModel", "factors": [2], "unet": unet | options}
    config.write_text(json.dumps(fused))
    edit(destination, ["headrace", "FuseBatchUNet2DConditionModel"])
    return destination


@pytest.mark.parametrize(("kind", "setting"), [("sdxl", "addition_embed_type"), ("lcm", "time_cond_proj_dim")])
def test_a_network_that_is_told_more_than_a_text_is_not_fused(tiny_model, tmp_path, kind, setting):
    with pytest.raises(UnsupportedModelError, match=f"{setting} = .* cannot be fused: K images share one body"):
        load(with_fused_network(tiny_model(kind), tmp_path / "fused"))


def test_a_fused_network_of_text_alone_is_none_of_sdxl(tiny_model, tmp_path):
    folder = with_fused_network(tiny_model("sdxl"), tmp_path / "fused", addition_embed_type=None)
    unet = json.loads((folder / "unet" / "config.json").read_text())["unet"]
    headrace.FuseBatchUNet2DConditionModel([2], unet).save_pretrained(folder / "unet")
    with pytest.raises(UnsupportedModelError, match="addition_embed_type = None"):
        load(folder)


def test_what_is_not_registered_is_no_attribute():
    with pytest.raises(AttributeError, match="NoSuchNetwork"):
        _ = headrace.NoSuchNetwork

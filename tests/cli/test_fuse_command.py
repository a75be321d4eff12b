import json

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel
from tiny_networks import NARROW_UNET


@pytest.fixture
def models(tmp_path):
    torch.manual_seed(0)
    for name, network in (("k1", UNet2DModel(**NARROW_UNET)), ("k2", FuseBatchUNet2DModel([2], NARROW_UNET))):
        DDPMPipeline(network, DDPMScheduler()).save_pretrained(tmp_path / name)
    return tmp_path


def test_networks_become_one_model_that_is_listed(headrace, models):
    arguments = ("--network", models / "k1", "--network", models / "k2")
    outcome = headrace("fuse", models / "all", *arguments, "--json")
    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out)["factors"] == [1, 2]
    [row] = json.loads(headrace("models", "--dir", models / "all", "--json").out)[-1:]
    assert row["error"] is None
    assert row["default_size"] == [8, 8]
    assert "K = 1, 2" in headrace("fuse", models / "again", *arguments).out


def test_a_folder_that_is_there_and_one_that_is_not_are_refused(headrace, models):
    taken = headrace("fuse", models / "k2", "--network", models / "k1")
    assert taken.status == 1
    assert "is there already" in taken.err
    missing = headrace("fuse", models / "all", "--network", models / "none")
    assert "there is no model" in missing.err
    assert not (models / "all").exists()


def test_a_stable_diffusion_gets_networks_to_train(headrace, tiny_model, tmp_path):
    folder = tmp_path / "start"
    assert "K = 1, 2" in headrace("fuse", folder, "--network", tiny_model("sd1"), "--untrained", "2").out
    outcome = headrace("generate", "red apple", "--model", folder, "--steps", "2", "--out", tmp_path / "one")
    assert outcome.status == 0, outcome.err
    refused = headrace("generate", "red", "--model", folder, "--fusion", "4", "--out", tmp_path / "two")
    assert "K=4" in refused.err

"""Training of groups of K pictures with a decoder for each stage; and of networks that can be guided, with stages."""

import json

import numpy as np
import pytest
import tiny_recipes
import torch

from headrace.engine import Engine
from headrace.errors import ModelError, RecipeError, RequestError
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.fusebatch.collection import collect, write
from headrace.training.run import RunOptions, train

STAGES = {"boundaries": [0.3, 0.6], "decoders": [16, 8, [4, 8]]}


@pytest.mark.parametrize(
    "phase",
    [
        {"fusion": 2},
        {"fusion": 4, "classes": 3, "class_dropout": 0.2},
        {"fusion": 2, "process": {"kind": "flow-matching"}},
        {"fusion": 2, "process": {"kind": "edm"}, "stages": STAGES | {"shared": False}},
    ],
)
def test_the_loss_falls(labelled, phase):
    made = tiny_recipes.diffusion_objective(labelled, **{"stages": STAGES, **phase})
    assert tiny_recipes.loss_after_training(made) < 0.85


def test_a_run_makes_a_folder_that_fuses_and_has_stages(labelled, tmp_path):
    values = tiny_recipes.diffusion(labelled, stages=STAGES, fusion=2, classes=3)
    folder = train(values, RunOptions(out=tmp_path / "run"))
    assert json.loads((folder / "model_index.json").read_text())["unet"] == ["headrace", "FuseBatchUNet2DModel"]
    results = Engine(load(folder)).generate([Request(steps=6, seed=seed, class_label=1) for seed in range(3)])
    assert [result.error for result in results] == [None] * 3
    assert results[0].settings["fusion_rows"] == [2] * 6
    assert set(results[0].plan.stage.tolist()) == {0, 1, 2}


def test_networks_of_several_factors_become_one_folder(labelled, tmp_path):
    """Each is trained by itself, as FuseBatch has it; a plan of the folder then has all of them, and the stages."""
    sources = []
    for fusion in (1, 2, 4):
        options = RunOptions(out=tmp_path / f"run{fusion}")
        values = tiny_recipes.diffusion(labelled, stages=STAGES, fusion=fusion, classes=3, class_dropout=0.2)
        sources.append(train(values, options))
    (tmp_path / "all").mkdir()
    write(collect(sources), sources[0], tmp_path / "all")
    engine = Engine(load(tmp_path / "all"))
    requests = [Request(steps=8, seed=seed, class_label=1, guidance_scale=2.0) for seed in range(4)]
    results = engine.generate(requests)
    assert [result.error for result in results] == [None] * 4
    assert results[0].settings["fusion_rows"] == [4, 4, 4, 4, 2, 2, 1, 1]
    assert set(results[0].plan.stage.tolist()) == {0, 1, 2}
    assert (results[0].plan.guidance == 2.0).all()
    assert collect([tmp_path / "all"]).factors == (1, 2, 4)
    grown = collect(sources[:1], untrained=[3])
    assert grown.factors == (1, 3)
    values = tiny_recipes.diffusion(
        labelled, stages=STAGES | {"boundaries": [0.3, 0.7]}, classes=3, class_dropout=0.2, fusion=2
    )
    with pytest.raises(ModelError, match="differ in boundaries"):
        collect([sources[0], train(values, RunOptions(out=tmp_path / "other"))])


def test_it_starts_from_networks_of_single_pictures_with_and_without_stages(labelled, tmp_path):
    for name, stages in (("plain", None), ("staged", STAGES)):
        single = tiny_recipes.diffusion_objective(labelled, stages=stages).unet
        single.save_pretrained(tmp_path / name / "unet")
        torch.manual_seed(1)
        fused = tiny_recipes.diffusion_objective(labelled, stages=STAGES, fusion=2, initial=str(tmp_path / name)).unet
        encoder = single if stages is None else single.encoders[0]
        taken = fused.networks["2"].body.encoders[0]
        assert torch.equal(taken.time_embedding.linear_1.weight, encoder.time_embedding.linear_1.weight)
        fused.save_pretrained(tmp_path / f"fused-{name}" / "unet")
        again = tiny_recipes.diffusion_objective(
            labelled, stages=STAGES, fusion=2, initial=str(tmp_path / f"fused-{name}")
        ).unet
        weights = again.state_dict()
        assert all(torch.equal(tensor, weights[key]) for key, tensor in fused.state_dict().items())


@pytest.mark.parametrize("fusion", [1, 2])
def test_a_model_that_learnt_without_labels_too_is_guided(labelled, tmp_path, fusion):
    values = tiny_recipes.diffusion(labelled, stages=STAGES, classes=3, class_dropout=0.3, fusion=fusion)
    pipeline = load(train(values, RunOptions(out=tmp_path / "run")))
    engine = Engine(pipeline)
    scales = (None, 1.0, 4.0)
    results = [engine.generate([Request(steps=5, seed=1, class_label=2, guidance_scale=scale)])[0] for scale in scales]
    pictures = [np.asarray(result.image).astype(int) for result in results]
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()
    assert (results[2].plan.guidance == 4.0).all()
    with pytest.raises(RequestError, match="3 classes"):
        engine.submit(Request(steps=5, class_label=3))


def test_labels_are_left_out_as_often_as_asked_and_never_when_scored(labelled):
    made = tiny_recipes.diffusion_objective(labelled, classes=3, class_dropout=0.25)
    assert made.unet.config["num_class_embeds"] == 4
    share = made.draws(4000, torch.Generator().manual_seed(0))["unlabelled"].float().mean()
    assert share == pytest.approx(0.25, abs=0.03)
    seen = []
    made.unet.register_forward_pre_hook(lambda _, __, given: seen.append(given["class_labels"]), with_kwargs=True)
    batch = tiny_recipes.draw(made, 0)
    made(batch | {"unlabelled": torch.arange(8) < 3})
    assert seen[0].tolist() == [3, 3, 3, *batch["labels"][3:].tolist()]


def test_dropped_labels_need_classes(labelled):
    with pytest.raises(RecipeError, match="no classes to leave out"):
        tiny_recipes.diffusion(labelled, class_dropout=0.1)


def test_without_it_nothing_else_is_drawn(labelled):
    plain, dropped = (
        tiny_recipes.draw(tiny_recipes.diffusion_objective(labelled, classes=3, class_dropout=share), 4)
        for share in (0.0, 0.5)
    )
    assert "unlabelled" not in plain
    for name, values in plain.items():
        assert torch.equal(values, dropped[name])

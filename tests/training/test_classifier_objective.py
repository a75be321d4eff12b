"""The classifier objective: it learns, its folder is a feature extractor, and bad data is named before any work."""

import copy
import csv
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_recipes
import torch

from headrace.errors import DataError, RecipeError, TrainingError
from headrace.evaluation.extractors.classifier import ClassifierFeatures, load_classifier
from headrace.training.augmentation import cut_out, shifted
from headrace.training.checkpoint import read_checkpoint
from headrace.training.data import load_images
from headrace.training.objectives.classifier import ClassifierObjective, logits_of, measure_statistics
from headrace.training.recipe import parse_recipe
from headrace.training.run import RunOptions, train
from headrace.training.whitening import whitening_filters

COLOURS = ("red", "green", "blue")


def write_labelled(path, repeats=8, labels=(0, 1, 2, 0, 1, 2)):
    """The tiny shapes, labelled with their colour."""
    images = [tiny_recipes.encoded(picture) for picture in tiny_recipes.pictures()] * repeats
    pq.write_table(pa.table({"image": images, "label": list(labels) * repeats}), path)
    return str(path)


@pytest.fixture
def values(tmp_path):
    data = {"path": write_labelled(tmp_path / "train.parquet"), "size": 16}
    data["held_out"] = write_labelled(tmp_path / "test.parquet", 1)
    loop = tiny_recipes.LOOP | {"steps": 30, "batch_size": 12, "learning_rate": 1e-2, "sample_every": 30}
    phase = {"objective": "classifier", "data_name": "shapes", "classes": COLOURS, "widths": [8, 16], "loop": loop}
    return {"name": "shapes", "data": data, "phases": {"classifier": phase}}


@pytest.fixture
def objective(values, tmp_path):
    recipe = parse_recipe(values)
    torch.manual_seed(0)
    return ClassifierObjective(recipe.phases["classifier"], load_images(recipe.data), tmp_path / "model")


def rows(folder):
    with (folder / "classifier" / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_learns_and_its_folder_is_an_extractor_of_the_accuracy_it_states(values, tmp_path):
    folder = train(parse_recipe(values), RunOptions(out=tmp_path / "run"))
    log = rows(tmp_path / "run")
    assert folder == tmp_path / "run" / "shapes"
    assert float(log[-1]["loss"]) < 0.6 * float(log[0]["loss"])
    assert float(log[-1]["held_out_accuracy"]) > 0.9
    held_out = load_images(parse_recipe(values).data).held_out
    classifier = load_classifier(folder)
    hits = (logits_of(classifier, held_out.images).argmax(1) == held_out.labels).double().mean().item()
    assert classifier.config.accuracy == hits == pytest.approx(float(log[-1]["held_out_accuracy"]))
    assert ClassifierFeatures(folder)(held_out.images).pooled.shape == (6, 16)
    assert len(list((tmp_path / "run" / "classifier" / "samples").glob("*.png"))) == 1


def test_a_resumed_run_has_the_same_losses_and_the_same_weights(values, tmp_path):
    values["phases"]["classifier"]["loop"] |= {"steps": 8}
    recipe = parse_recipe(values)
    train(recipe, RunOptions(out=tmp_path / "whole"))
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "classifier" / "checkpoints" / "step-00000008")
    shutil.rmtree(tmp_path / "broken" / "model")
    train(recipe, RunOptions(out=tmp_path / "broken", resume=True))
    losses = [[row["loss"] for row in rows(tmp_path / name)] for name in ("whole", "broken")]
    assert losses[0] == losses[1]
    weights = [(tmp_path / name / "model/classifier/model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert weights[0] == weights[1]


def test_the_statistics_of_exported_batch_norms_are_those_of_the_cycles_mean(values, tmp_path):
    values["phases"]["classifier"]["loop"] |= {"cycles": 3, "checkpoint_every": 10, "ema_decay": 0.9}
    recipe = parse_recipe(values)
    train(recipe, RunOptions(out=tmp_path / "run"))
    found = load_classifier(tmp_path / "run" / "shapes").state_dict()
    kept = read_checkpoint(tmp_path / "run" / "classifier" / "checkpoints" / "step-00000030").learned
    data = load_images(recipe.data)
    torch.manual_seed(recipe.seed)
    again = ClassifierObjective(recipe.phases["classifier"], data, tmp_path / "again")
    expected = {}
    for name, weights in {"mean": kept.cycle_mean, "last end": kept.average}.items():
        again.load_state_dict(again.state_dict() | weights)
        measure_statistics(again.classifier, data.images)
        expected[name] = {key: value.half().float() for key, value in again.classifier.state_dict().items()}
    statistics = [key for key in found if key.endswith(("running_mean", "running_var"))]
    assert statistics
    for key in found:
        torch.testing.assert_close(found[key], expected["mean"][key].to(found[key].dtype), rtol=1e-3, atol=1e-4)
    for key in statistics[2:]:  # the first norm stands behind the fixed stem
        assert (found[key] - expected["last end"][key]).abs().max() > 1e-3, key


def test_labels_that_are_missing_or_name_no_class(values, tmp_path):
    def build(**data):
        recipe = parse_recipe({**values, "data": values["data"] | data})
        return ClassifierObjective(recipe.phases["classifier"], load_images(recipe.data), tmp_path)

    bare = str(tiny_recipes.write_parquet(tmp_path / "bare.parquet"))
    with pytest.raises(DataError, match="no class labels"):
        build(path=bare)
    beyond = write_labelled(tmp_path / "beyond.parquet", labels=(0, 1, 2, 0, 7, 2))
    with pytest.raises(DataError, match=r"row 4 has the class label 7, and there are 3 classes"):
        build(path=beyond)
    below = write_labelled(tmp_path / "below.parquet", labels=(0, -1, 2, 0, 1, 2))
    with pytest.raises(DataError, match=r"row 1 has the class label -1"):
        build(held_out=below)
    with pytest.raises(DataError, match=r"data\.held_out"):
        build(held_out=None)


def test_a_network_with_more_stages_than_the_pictures_bear(values, tmp_path):
    values["phases"]["classifier"]["widths"] = [8] * 5
    recipe = parse_recipe(values)
    with pytest.raises(RecipeError, match="5 stages leave nothing of 16 pixels"):
        ClassifierObjective(recipe.phases["classifier"], load_images(recipe.data), tmp_path)


def test_pictures_are_shifted_over_their_mirrored_edge_and_mirrored():
    images = torch.randint(0, 256, (3, 3, 6, 5), dtype=torch.uint8)
    moves = torch.tensor([[0, 0], [2, -1], [-2, 2]])
    moved = shifted(images, moves, torch.tensor([False, False, True]), most=2)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    assert torch.equal(moved[0], images[0])
    assert np.array_equal(moved[1], padded[1, :, 4:10, 1:6])
    assert np.array_equal(moved[2], padded[2, :, 0:6, 4:9][:, :, ::-1])


def test_a_square_is_cut_out_as_far_as_it_lies_inside():
    images = torch.ones(2, 3, 8, 8)
    cut = cut_out(images, torch.tensor([[4, 4], [0, 7]]), 4, torch.full((1, 3, 1, 1), 0.5))
    expected = images.clone()
    expected[0, :, 2:6, 2:6] = 0.5
    expected[1, :, :2, 5:] = 0.5
    assert torch.equal(cut, expected)


def test_a_phase_continues_what_an_earlier_one_exported(values, tmp_path):
    phases, first = values["phases"], values["phases"]["classifier"]
    phases["second"] = {**first, "continued": True, "cutout": 4, "loop": first["loop"] | {"steps": 2}}
    with pytest.raises(TrainingError, match="no classifier stands"):
        train(parse_recipe(values), RunOptions(out=tmp_path / "run", phase="second"))
    train(parse_recipe(values), RunOptions(out=tmp_path / "run", phase="classifier"))
    before = load_classifier(tmp_path / "run" / "shapes")
    recipe = parse_recipe(values)
    again = ClassifierObjective(recipe.phases["second"], load_images(recipe.data), tmp_path / "run" / "model")
    assert all(module.training for module in again.modules())
    train(parse_recipe(values), RunOptions(out=tmp_path / "run", phase="second"))
    after = load_classifier(tmp_path / "run" / "shapes")
    assert torch.equal(before.stem.weight, after.stem.weight)
    change = (before.head.weight - after.head.weight).abs().max()
    assert 0 < change < 0.1  # two steps from there, not a network of its own
    phases["second"]["widths"] = [8, 8]
    with pytest.raises(TrainingError, match="another than the recipe's"):
        train(parse_recipe(values), RunOptions(out=tmp_path / "run", phase="second"))


def test_whitened_patches_are_uncorrelated_and_of_unit_deviation():
    torch.manual_seed(0)
    mixing = 10 * (torch.eye(3) + 0.5)
    pictures = torch.einsum("dc,nchw->ndhw", mixing, torch.randn(50, 3, 12, 12))
    filters = whitening_filters(pictures, 2)
    outputs = torch.nn.functional.conv2d(pictures, filters).transpose(0, 1).flatten(1)
    assert torch.equal(filters[:12], -filters[12:])
    assert torch.allclose(outputs[:12] @ outputs[:12].T / outputs.shape[1], torch.eye(12), atol=0.02)
    faint = torch.nn.functional.conv2d(pictures / 1000, whitening_filters(pictures / 1000, 2))
    assert faint.std() < 0.2  # noise is not made as large as a signal


def test_statistics_are_those_of_the_pictures(objective):
    images = objective.data.images
    classifier = objective.classifier
    with torch.no_grad():
        classifier.train()
        expected = classifier(images.float() / 255)
    measure_statistics(classifier, images)
    torch.testing.assert_close(logits_of(classifier, images), expected, rtol=1e-2, atol=1e-2)


def test_a_data_set_in_the_order_of_its_classes_is_judged_like_any_other(values, tmp_path):
    order = (0, 3, 1, 4, 2, 5)  # parts of the sorted set hold one class each
    images = [tiny_recipes.encoded(tiny_recipes.pictures()[row]) for row in order for _ in range(130)]
    pq.write_table(pa.table({"image": images, "label": [0] * 260 + [1] * 260 + [2] * 260}), tmp_path / "sorted.parquet")
    recipe = parse_recipe({**values, "data": values["data"] | {"path": str(tmp_path / "sorted.parquet")}})
    torch.manual_seed(0)
    data = load_images(recipe.data)
    objective = ClassifierObjective(recipe.phases["classifier"], data, tmp_path)
    right, wrong = copy.deepcopy(objective.classifier), copy.deepcopy(objective.classifier)
    measure_statistics(right, torch.cat([data.images[start::130] for start in range(130)]))
    measure_statistics(wrong, data.images)
    objective.export(tmp_path)
    found, good, bad = (
        logits_of(network, data.held_out.images) for network in (load_classifier(tmp_path / "classifier"), right, wrong)
    )
    assert (found - good).abs().max() < 0.2 * (bad - good).abs().max()


def test_judging_leaves_the_network_alone_and_follows_its_weights(objective):
    before = {name: tensor.clone() for name, tensor in objective.classifier.state_dict().items()}
    first = objective.scores()["held_out_accuracy"]
    assert all(torch.equal(before[name], tensor) for name, tensor in objective.classifier.state_dict().items())
    with torch.no_grad():
        objective.classifier.head.weight.zero_()
        objective.classifier.head.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    assert objective.scores()["held_out_accuracy"] == pytest.approx(1 / 3)
    assert 0 <= first <= 1
    shown = objective.sample_grid()
    assert shown.height > 32  # four pictures are wrong: a row of tiles


def test_draws_are_within_the_shift_and_follow_the_recipe(values, objective, tmp_path):
    drawn = objective.draws(500, torch.Generator().manual_seed(0))
    assert set(drawn["moves"].unique().tolist()) == {-2, -1, 0, 1, 2}
    assert 0.4 < drawn["mirrored"].float().mean() < 0.6
    values["phases"]["classifier"] |= {"flip": False, "translate": 0}
    recipe = parse_recipe(values)
    still = ClassifierObjective(recipe.phases["classifier"], load_images(recipe.data), tmp_path)
    drawn = still.draws(50, torch.Generator().manual_seed(0))
    assert not drawn["mirrored"].any()
    assert not drawn["moves"].any()

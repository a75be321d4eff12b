"""The classifier that is shipped: what it weighs, that what it states is true, and what its figures are called."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import headrace
from headrace.evaluation.extractors.classifier import ClassifierFeatures, load_classifier
from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
from real_data import data_file

FOLDER = Path(headrace.__file__).parent / "assets" / "cifar10-classifier"
MEBIBYTE = 2**20
EVERY = 5


@pytest.fixture(scope="module")
def held_out():
    """Every fifth picture of the test set, uint8 [2000, 3, 32, 32], and the labels."""
    table = pq.read_table(data_file("cifar10-test.parquet"))
    rows = table.take(np.arange(0, len(table), EVERY)).to_pylist()
    encoded = [row["image"]["bytes"] if isinstance(row["image"], dict) else row["image"] for row in rows]
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in encoded])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.tensor([row["label"] for row in rows])


def test_it_is_small_and_holds_safetensors_only():
    assert {path.name for path in FOLDER.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 2.6 * MEBIBYTE


def test_it_is_an_extractor_whose_figures_are_not_called_fid():
    (extractor,) = build_extractors(ExtractorOptions(names=["cifar10-classifier"]))
    assert isinstance(extractor, ClassifierFeatures)
    assert extractor.name == "cifar10-classifier"
    assert not extractor.is_fid_inception
    features = extractor(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    assert features.pooled.shape == (2, 256)
    assert features.logits.shape == (2, 10)
    assert features.spatial.shape == (2, 7 * 8 * 8)


def test_its_card_states_the_accuracy_of_its_configuration():
    accuracy = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["accuracy"]
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert accuracy >= 0.9
    assert f"{accuracy:.2%}" in card
    assert "not Inception" in card


def test_the_stated_accuracy_is_true(held_out):
    pictures, labels = held_out
    classifier = load_classifier(FOLDER)
    with torch.inference_mode():
        guesses = torch.cat([classifier.answers(part.float() / 255)[2].argmax(1) for part in pictures.split(250)])
    found = (guesses == labels).double().mean().item()
    # A fifth of the set: its sampling deviation is 0.5 points.
    assert found == pytest.approx(classifier.config.accuracy, abs=0.015)


def test_it_knows_its_classes_apart(held_out):
    pictures, labels = held_out
    extractor = ClassifierFeatures(FOLDER)
    ships = extractor(pictures[labels == 8]).pooled.double()
    others = [extractor(pictures[labels == number]).pooled.double() for number in (5, 9)]
    half = len(ships) // 2
    within = (ships[:half].mean(0) - ships[half:].mean(0)).norm()
    assert all((ships.mean(0) - other.mean(0)).norm() > 5 * within for other in others)

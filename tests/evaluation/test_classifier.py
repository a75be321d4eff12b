"""Embedded classifiers: their network, their folder, and the names of extractors."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace.errors import CorruptModelError, HeadraceError
from headrace.evaluation.extractors.classifier import ClassifierFeatures, embedded_classifiers
from headrace.evaluation.extractors.classifier_network import Classifier, ClassifierConfig
from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
from tiny_extractors import build_classifier


@pytest.fixture
def folder(tmp_path):
    return build_classifier(tmp_path / "assets" / "shapes")


def test_features_logits_and_scaling(folder):
    extractor = ClassifierFeatures(folder)
    pictures = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    features = extractor(pictures)
    assert extractor.name == "shapes"
    assert features.pooled.shape == (5, 16)
    assert features.spatial.shape == (5, 7 * 8 * 8)
    assert features.logits.shape == (5, 3)
    torch.testing.assert_close(extractor(pictures[2:3]).logits, features.logits[2:3], rtol=1e-4, atol=1e-5)
    flat = pictures[:, :, :1, :1].expand(-1, -1, 16, 16)
    larger = flat[:, :, :1, :1].expand(-1, -1, 40, 24).contiguous()
    torch.testing.assert_close(extractor(larger).logits, extractor(flat.contiguous()).logits, rtol=1e-4, atol=1e-5)


def test_a_mirrored_classifier_answers_the_same_for_a_picture_and_its_mirror_image():
    config = {"model_type": "headrace-classifier", "data": "none", "classes": ["one", "other"], "widths": (8, 16)}
    torch.manual_seed(0)
    plain = Classifier(ClassifierConfig(**config, size=8)).eval()
    mirrored = Classifier(ClassifierConfig(**config, size=8, mirrored=True)).eval()
    mirrored.load_state_dict(plain.state_dict())
    pictures = torch.rand(3, 3, 8, 8)
    assert not torch.allclose(plain.answers(pictures)[2], plain.answers(pictures.flip(-1))[2])
    for seen, turned in zip(mirrored.answers(pictures), mirrored.answers(pictures.flip(-1)), strict=True):
        torch.testing.assert_close(seen, turned)
    halves = [plain(pictures), plain(pictures.flip(-1))]
    torch.testing.assert_close(mirrored.answers(pictures)[2], (halves[0] + halves[1]) / 2)
    torch.testing.assert_close(mirrored(pictures), plain(pictures))  # training sees one view


def test_it_can_learn_and_its_default_fits_into_four_mebibytes():
    config = {"model_type": "headrace-classifier", "data": "none", "classes": [str(i) for i in range(10)]}
    default = Classifier(ClassifierConfig(**config))
    assert 2 * sum(tensor.numel() for tensor in default.state_dict().values()) < 4 << 20
    torch.manual_seed(0)
    small = Classifier(ClassifierConfig(**config, size=8, widths=(8, 16)))
    optimiser = torch.optim.Adam(small.parameters(), 1e-2)
    pictures, labels = torch.rand(40, 3, 8, 8), torch.arange(40) % 10
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(small(pictures), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_only_classifiers_are_found_among_the_assets(folder):
    for name, content in (("model", '{"model_type": "clip"}'), ("broken", "{")):
        (folder.parent / name).mkdir()
        (folder.parent / name / "config.json").write_text(content)
    assert embedded_classifiers(folder.parent) == {"shapes": folder}


def test_damaged_folders_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "widths": [8, 32]}))
    with pytest.raises(CorruptModelError, match="do not fit"):
        ClassifierFeatures(folder)
    (folder / "config.json").write_text(json.dumps({**config, "depth": 3}))
    with pytest.raises(CorruptModelError, match="depth"):
        ClassifierFeatures(folder)
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if name != "head.bias"}, folder / "model.safetensors")
    with pytest.raises(CorruptModelError, match=r"head\.bias"):
        ClassifierFeatures(folder)


def test_names_of_extractors(folder, monkeypatch):
    assert [one.name for one in build_extractors(ExtractorOptions())] == ["colour-gradients"]
    assert [one.name for one in build_extractors(ExtractorOptions(names=[str(folder)]))] == ["shapes"]
    with pytest.raises(HeadraceError, match=r"no extractor 'cifar10'.*colour-gradients"):
        build_extractors(ExtractorOptions(names=["colour-gradients", "cifar10"]))
    with pytest.raises(HeadraceError, match="--inception-weights"):
        build_extractors(ExtractorOptions(names=["inception"]))
    monkeypatch.setattr(
        "headrace.evaluation.extractors.registry.embedded_classifiers", lambda: embedded_classifiers(folder.parent)
    )
    assert [one.name for one in build_extractors(ExtractorOptions(names=["shapes"]))] == ["shapes"]
    with pytest.raises(HeadraceError, match="embedded: shapes"):
        build_extractors(ExtractorOptions(names=["other"]))

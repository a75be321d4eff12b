"""CLIP and DINOv2 folders, with tiny random networks, against transformers used directly."""

import json
import shutil

import pytest
import torch
from PIL import Image
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, Dinov2Model

from headrace.errors import CorruptModelError, ModelNotFoundError, UnsafeWeightsError, UnsupportedModelError
from headrace.evaluation.extractors.transformers_folder import Clip, Dino
from tiny_extractors import build_clip, build_dino


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return build_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    return build_dino(tmp_path_factory.mktemp("models") / "dino")


@pytest.fixture(scope="module")
def pictures():
    return torch.randint(0, 256, (3, 3, 40, 56), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def pil(pictures):
    return [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]


def test_clip_is_that_of_transformers_on_the_pictures_themselves(clip_folder, pictures):
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(pil(pictures), return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = CLIPModel.from_pretrained(clip_folder).eval().get_image_features(pixels).pooler_output
    features = Clip(clip_folder)(pictures)
    torch.testing.assert_close(features.pooled, expected)
    assert features.logits is None
    assert (features.pooled[0] - features.pooled[1]).norm() > 1e-2


def test_clip_texts_alone_and_together(clip_folder):
    clip = Clip(clip_folder)
    texts = ["a red apple", "a blue dog, " * 30, "x"]
    together = clip.encode_texts(texts, batch=2)
    for text, row in zip(texts, together, strict=True):
        torch.testing.assert_close(clip.encode_texts([text])[0], row, rtol=1e-4, atol=1e-5)
    tokens = CLIPTokenizer.from_pretrained(clip_folder)(texts[:1], return_tensors="pt")
    with torch.no_grad():
        expected = CLIPModel.from_pretrained(clip_folder).eval().get_text_features(**tokens).pooler_output
    torch.testing.assert_close(together[:1], expected, rtol=1e-4, atol=1e-5)


def test_dino_is_the_class_token(dino_folder, pictures):
    pixels = BitImageProcessorPil.from_pretrained(dino_folder)(pil(pictures), return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = Dinov2Model.from_pretrained(dino_folder).eval()(pixels).last_hidden_state[:, 0]
    torch.testing.assert_close(Dino(dino_folder)(pictures).pooled, expected)


def test_the_digest_follows_weights_and_preprocessing(dino_folder, tmp_path):
    other = shutil.copytree(dino_folder, tmp_path / "other")
    assert Dino(other).digest == Dino(dino_folder).digest
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**settings, "do_center_crop": False}))
    assert Dino(other).digest != Dino(dino_folder).digest


def test_folders_that_are_something_else(clip_folder, dino_folder, tmp_path):
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        Clip(tmp_path / "nowhere")
    with pytest.raises(UnsupportedModelError, match="'dinov2' model, and clip"):
        Clip(dino_folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorruptModelError, match=r"config\.json"):
        Dino(tmp_path / "empty")
    pickled = shutil.copytree(clip_folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match=r"pytorch_model\.bin"):
        Clip(pickled)
    bare = shutil.copytree(dino_folder, tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(CorruptModelError, match="preprocessor_config"):
        Dino(bare)

"""Pairs of picture files, and CLIP scores of pictures with their texts."""

import shutil

import numpy as np
import pytest
from PIL import Image

from headrace.errors import DataError, HeadraceError
from headrace.evaluation.cache import features_once
from headrace.evaluation.evaluate import clip_score
from headrace.evaluation.extractors.transformers_folder import Clip, Dino
from headrace.evaluation.paired import EQUAL_PSNR, pair_up, paired_figures
from headrace.pictures.source import open_source
from picture_folders import disc, write_folder, write_parquet
from tiny_extractors import build_clip, build_dino


def test_pixels_and_features_of_pairs(tmp_path):
    first, second = write_folder(tmp_path / "a", 4), tmp_path / "b"
    shutil.copytree(first, second)
    dino = Dino(build_dino(tmp_path / "dino"))
    pairs = [(path, second / path.name) for path in sorted(first.iterdir())]
    same, skipped = paired_figures(pairs, [dino])
    assert skipped == []
    values = {figure.metric: figure.value for figure in same}
    assert values == pytest.approx({"psnr": EQUAL_PSNR, "ssim": 1.0, "similarity": 1.0})
    for number, path in enumerate(sorted(second.iterdir())):
        pixels = np.asarray(disc(number)).astype(int) + np.random.default_rng(number).integers(-9, 10, (24, 24, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    other, _ = paired_figures(pairs, [dino])
    for before, after in zip(same, other, strict=True):
        assert after.value < before.value
        assert (after.samples, after.references) == (4, 4)
    assert [figure.extractor for figure in other] == [None, None, "dinov2"]


def test_pairs_that_cannot_be_compared_are_named(tmp_path):
    first, second = write_folder(tmp_path / "a", 3), write_folder(tmp_path / "b", 3)
    disc(1, 30).save(second / "0001.png")
    (first / "0002.png").write_bytes(b"")
    pairs = [(path, second / path.name) for path in sorted(first.iterdir())]
    figures, skipped = paired_figures(pairs)
    assert figures[0].samples == 1
    assert [text[:8] for text in skipped] == ["0001.png", "0002.png"]
    with pytest.raises(DataError, match="2 pair"):
        paired_figures(pairs[1:])


def test_pairs_follow_their_keys(tmp_path):
    paths = {name: tmp_path / name for name in "abc"}
    others = {name: tmp_path / f"other-{name}" for name in "cbx"}
    assert pair_up(paths, others) == [(paths["b"], others["b"]), (paths["c"], others["c"])]
    with pytest.raises(HeadraceError, match="none of 3"):
        pair_up(paths, {"z": tmp_path})


def test_the_clip_score_is_the_scaled_cosine_with_each_pictures_own_text(tmp_path):
    clip = Clip(build_clip(tmp_path / "clip"))
    found = features_once(open_source(write_parquet(tmp_path / "set.parquet", 7)), clip)
    [figure] = clip_score(found, clip)
    texts = clip.encode_texts([text for text in found.captions if text]).numpy()
    cosines = [
        row @ text / np.linalg.norm(row) / np.linalg.norm(text) for row, text in zip(found.features, texts, strict=True)
    ]
    assert figure.value == pytest.approx(100 * np.maximum(cosines, 0).mean(), rel=1e-4)
    assert figure.samples == 7
    assert figure.value > 0
    assert clip_score(features_once(open_source(write_folder(tmp_path / "set", 3)), clip), clip) == []

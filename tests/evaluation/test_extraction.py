"""Features of sets of pictures: one pass, files, cache."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from headrace.errors import CorruptModelError, DataError, OutputError
from headrace.evaluation.cache import FeatureCache, features_once
from headrace.evaluation.extraction import extract
from headrace.evaluation.extractors.colour_gradients import ColourGradients
from headrace.evaluation.extractors.extractor import Features
from headrace.evaluation.feature_set import load
from headrace.pictures.source import open_source
from picture_folders import disc, write_folder, write_parquet


class Counting:
    """Mean colours as features, places and class logits; counts the pictures that it sees."""

    name, is_fid_inception = "counting", False

    def __init__(self, digest="0"):
        self.digest = digest
        self.seen = 0
        self.largest = 0

    def __call__(self, pictures):
        assert pictures.dtype == torch.uint8
        self.seen += len(pictures)
        self.largest = max(self.largest, len(pictures))
        values = pictures.float()
        means = values.mean(dim=(2, 3))
        return Features(means, spatial=values[:, 0, :4, 0], logits=means / 20)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "set", 13)


def means(numbers):
    return np.array([np.asarray(disc(number), dtype=np.float64).mean(axis=(0, 1)) for number in numbers])


def test_everything_is_kept_whatever_the_batches(folder, tmp_path):
    expected = means(range(13))
    for most in (1, 5, 100):
        out = tmp_path / str(most)
        out.mkdir()
        done = []
        extractor = Counting()
        found = extract(open_source(folder), extractor, out, progress=done.append, most=most)
        np.testing.assert_allclose(found.features, expected, rtol=1e-5)
        np.testing.assert_allclose(found.gaussian.covariance, np.cov(expected, rowvar=False), rtol=1e-4)
        assert found.spatial.count == found.score.counts.sum() == 13
        assert done[-1] == 13
        assert extractor.largest == min(most, 13)
        again = load(out)
        np.testing.assert_array_equal(again.features, found.features)
        assert again.score.compute() == found.score.compute()
        assert again.gaussian.covariance.tolist() == found.gaussian.covariance.tolist()


def test_features_lie_in_a_file_and_not_in_memory(folder):
    found = features_once(open_source(folder), Counting())
    assert isinstance(found.features, np.memmap)
    np.testing.assert_allclose(found.features, means(range(13)), rtol=1e-5)  # though its folder is gone


def test_pictures_of_several_sizes(folder):
    disc(50, side=40).save(folder / "large.png")
    assert features_once(open_source(folder), Counting()).features.shape == (14, 3)
    extractor = Counting()
    scaled = features_once(open_source(folder), extractor, size=(12, 12))
    assert scaled.features.shape == (14, 3)
    assert extractor.largest == 14


def test_labels_and_captions_stay_with_their_pictures(tmp_path):
    found = features_once(open_source(write_parquet(tmp_path / "set.parquet", 9)), Counting())
    assert found.labels.tolist() == [0, 1, 2] * 3
    assert found.captions[:2] == ("a red apple", "a green apple")
    part = found.part(np.array([1, 4, 7]))
    assert part.labels.tolist() == [1, 1, 1]
    np.testing.assert_allclose(part.gaussian.mean, means([1, 4, 7]).mean(axis=0), rtol=1e-5)
    assert part.score is None


def test_corrupt_pictures_are_named_and_skipped(folder):
    (folder / "0003.png").write_bytes(b"not a picture")
    (folder / "0007.png").write_bytes((folder / "0008.png").read_bytes()[:80])
    found = features_once(open_source(folder), Counting())
    assert len(found) == 11
    assert [name.split("/")[-1][:8] for name in found.skipped] == ["0003.png", "0007.png"]
    for file in sorted(folder.iterdir())[:12]:
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"1 readable picture.*0000\.png"):
        features_once(open_source(folder), Counting())


def test_the_cache_answers_for_content_extractor_and_size(folder, tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    extractor = Counting()
    first = cache.features(open_source(folder), extractor, (12, 12))
    copy = write_folder(tmp_path / "copy", 13)
    again = cache.features(open_source(copy), extractor, (12, 12))
    assert extractor.seen == 13
    np.testing.assert_array_equal(first.features, again.features)
    cache.features(open_source(folder), extractor, (10, 10))
    cache.features(open_source(folder), Counting(digest="1"), (12, 12))
    disc(99).save(copy / "0005.png")
    cache.features(open_source(copy), extractor, (12, 12))
    assert extractor.seen == 3 * 13
    assert len(list((tmp_path / "cache").iterdir())) == 4  # and nothing temporary


def test_a_saved_dataset_is_known_by_its_content(tmp_path):
    sample = Path(__file__).parents[1] / "pictures" / "data" / "saved_dataset"
    cache, extractor = FeatureCache(tmp_path / "cache"), Counting()
    found = cache.features(open_source(sample / "train"), extractor)
    assert found.labels.tolist() == [2, 1, 0] * 3
    np.testing.assert_array_equal(found.features[:3], [[0, 0, 200], [0, 200, 0], [200, 0, 0]])
    copy = shutil.copytree(sample / "train", tmp_path / "copy")
    assert len(cache.features(open_source(copy), extractor)) == 9
    assert extractor.seen == 9
    assert len(cache.features(open_source(sample / "test"), extractor)) == 3
    assert extractor.seen == 12


def test_a_damaged_entry_is_made_again_and_a_failed_one_leaves_nothing(folder, tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    extractor = Counting()
    cache.features(open_source(folder), extractor)
    [entry] = (tmp_path / "cache").iterdir()
    about = json.loads((entry / "about.json").read_text())
    (entry / "about.json").write_text(json.dumps({**about, "count": 12}))
    with pytest.raises(CorruptModelError, match="lengths differ"):
        load(entry)
    assert len(cache.features(open_source(folder), extractor)) == 13
    assert extractor.seen == 26
    (tmp_path / "one").mkdir()
    disc(0).save(tmp_path / "one" / "a.png")
    with pytest.raises(DataError, match="at least 2"):
        cache.features(open_source(tmp_path / "one"), extractor)
    assert list((tmp_path / "cache").iterdir()) == [entry]


def test_a_cache_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--cache"):
        FeatureCache(tmp_path / "file").features(open_source(folder), Counting())


def test_the_extractor_without_weights_tells_classes_apart(tmp_path):
    found = features_once(open_source(write_folder(tmp_path / "set", 12)), ColourGradients())
    assert found.features.shape == (12, 372)
    assert found.spatial.dimension == 64

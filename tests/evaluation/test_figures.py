"""Figures of feature sets, their names, and self-checks."""

import dataclasses

import numpy as np
import pytest

from headrace.errors import DataError
from headrace.evaluation.cache import FeatureCache, features_once
from headrace.evaluation.evaluate import Evaluation
from headrace.evaluation.extractors.colour_gradients import ColourGradients
from headrace.evaluation.feature_set import FeatureSet
from headrace.evaluation.figures import MetricOptions, figures, warnings
from headrace.evaluation.metrics.class_score import ClassScore
from headrace.evaluation.metrics.gaussian import Gaussian, frechet_distance
from headrace.evaluation.self_check import NoiseSource, self_checks
from headrace.evaluation.sizes import first_size
from headrace.pictures.folder import FileSource
from headrace.pictures.source import open_source
from picture_folders import disc, write_folder, write_parquet

FEW = MetricOptions(subsets=3, subset_size=20)


def feature_set(count=60, seed=0, shift=0.0, fid=False, score=True, labels=None):
    rows = (np.random.default_rng(seed).normal(size=(count, 6)) + shift).astype(np.float32)
    scored = ClassScore(6)
    scored.update(rows)
    fitted = Gaussian.of(rows)
    return FeatureSet("an extractor", "abc", fid, rows, fitted, fitted, scored if score else None, labels)


def test_only_the_fid_network_gives_a_fid():
    own = {figure.metric: figure for figure in figures(feature_set(), feature_set(50, 1), FEW)}
    published = {figure.metric: figure for figure in figures(feature_set(fid=True), feature_set(50, 1, fid=True), FEW)}
    assert set(own) == {
        "frechet_distance", "spatial_frechet_distance", "kernel_distance", "precision", "recall", "class_score",
    }  # fmt: skip
    assert set(published) == {"fid", "sfid", "kid", "precision", "recall", "inception_score"}
    assert published["fid"].value == own["frechet_distance"].value
    assert (own["recall"].extractor, own["recall"].digest) == ("an extractor", "abc")
    assert (own["recall"].samples, own["recall"].references, own["class_score"].references) == (60, 50, None)


def test_a_set_that_is_further_away_is_further_away_in_every_figure():
    data = feature_set(80, 1)
    near = {figure.metric: figure.value for figure in figures(feature_set(80, 2, 0.2), data, FEW)}
    far = {figure.metric: figure.value for figure in figures(feature_set(80, 2, 2.0), data, FEW)}
    for metric in ("frechet_distance", "spatial_frechet_distance", "kernel_distance"):
        assert far[metric] > 2 * near[metric]
    assert far["precision"] < near["precision"]
    assert far["recall"] < near["recall"]


def test_few_pictures_are_warned_about():
    assert warnings(feature_set(60), feature_set(60)) == []
    [few] = warnings(feature_set(5), feature_set(60))
    assert "5 samples are fewer than the 6 feature dimensions" in few
    assert "biased" in few
    tiny = figures(feature_set(3), feature_set(60), FEW)
    assert {figure.metric for figure in tiny}.isdisjoint({"precision", "recall"})
    assert any("left out" in text for text in warnings(feature_set(3), feature_set(60)))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return open_source(write_parquet(folder / "set.parquet", 90))


def test_self_checks_of_pictures_pass_and_name_what_they_compare(labelled):
    data = features_once(labelled, ColourGradients())
    checks = {
        one.against: one for one in self_checks(data, features_once(NoiseSource(30, (24, 24)), ColourGradients()))
    }
    assert list(checks) == ["itself", "its other half", "noise", "its class 0"]
    assert all(one.passed for one in checks.values())
    distance = {name: one.figures[0].value for name, one in checks.items()}
    assert distance["itself"] == pytest.approx(0.0, abs=1e-9)
    assert distance["its other half"] < distance["its class 0"] < distance["noise"]


def test_held_out_pictures_are_the_floor_and_others_are_not(labelled, tmp_path):
    data = features_once(labelled, ColourGradients())
    noise = features_once(NoiseSource(30, (24, 24)), ColourGradients())
    more = features_once(open_source(write_folder(tmp_path / "more", 60, first=1000)), ColourGradients())
    [held_out] = [one for one in self_checks(data, noise, more) if one.against == "held-out pictures"]
    assert held_out.passed
    assert (held_out.figures[0].samples, held_out.figures[0].references) == (60, 90)
    assert held_out.figures[0].value == pytest.approx(frechet_distance(more.gaussian, data.gaussian))
    [wrong] = [one for one in self_checks(data, noise, noise) if one.against == "held-out pictures"]
    assert not wrong.passed


def test_several_sets_of_samples_compute_the_data_set_once_and_say_the_same_each(tmp_path, labelled):
    seen = []
    evaluation = Evaluation(labelled, [_Sized(seen)], FeatureCache(tmp_path / "cache"), FEW)
    samples = open_source(write_folder(tmp_path / "samples", 20, first=500))
    first, others = evaluation.measure(samples), len(seen)
    assert evaluation.measure(samples).figures == first.figures
    assert len(seen) == others + 1  # one batch of samples, none of the data set
    alone = Evaluation(labelled, [ColourGradients()], FeatureCache(tmp_path / "other"), FEW)
    assert alone.measure(samples).figures == first.figures


def test_a_damaged_cache_is_told_and_sizes_that_differ_are(tmp_path, labelled):
    folder = write_folder(tmp_path / "samples", 20, first=500)
    Evaluation(labelled, [ColourGradients()], FeatureCache(tmp_path / "cache"), FEW).measure(open_source(folder))
    [entry] = (tmp_path / "cache").iterdir()
    (entry / "features.npy").write_bytes(b"cut")
    disc(700, side=40).save(folder / "9999.png")
    found = Evaluation(labelled, [ColourGradients()], FeatureCache(tmp_path / "cache"), FEW).measure(
        open_source(folder)
    )
    assert any(str(entry) in text and "computed again" in text for text in found.warnings)
    assert any("1 of 21 samples are not 24 x 24" in text for text in found.warnings)
    again = Evaluation(labelled, [ColourGradients()], FeatureCache(tmp_path / "cache"), FEW).measure(
        open_source(folder)
    )
    assert not any("computed again" in text for text in again.warnings)


def test_a_self_check_fails_where_noise_is_as_good_as_the_data(labelled):
    data = features_once(labelled, ColourGradients())
    checks = {one.against: one.passed for one in self_checks(data, data.part(np.arange(0, 90, 3)))}
    assert checks["itself"]
    assert not checks["noise"]
    with pytest.raises(DataError, match="at least 8"):
        self_checks(data.part(np.arange(5)), data)


def test_noise_is_the_same_each_time():
    first, second = (features_once(NoiseSource(4, (9, 12)), ColourGradients()) for _ in range(2))
    np.testing.assert_array_equal(first.features, second.features)
    assert first_size(NoiseSource(1, (9, 12))) == (9, 12)


def test_an_evaluation_brings_both_sets_to_the_size_of_the_samples(tmp_path, labelled):
    samples = open_source(write_folder(tmp_path / "samples", 20, first=500, side=16))
    bad = tmp_path / "samples" / "9999.png"
    bad.write_bytes(b"no")
    samples = open_source(tmp_path / "samples")
    seen = []
    evaluation = Evaluation(labelled, [_Sized(seen)], FeatureCache(tmp_path / "cache"), FEW)
    found = evaluation.measure(samples, lambda *what: seen.append(what))
    assert {shape for shape in seen if len(shape) == 2} == {(16, 16)}
    assert ("samples, colour-gradients", 21, 21) in seen
    assert found.skipped[0].startswith(str(bad))
    assert (found.data_pictures, found.figures[0].samples, found.figures[0].references) == (90, 20, 90)
    assert len(found.data_digest) == 64
    assert any("20 samples are fewer" in text for text in found.warnings)
    assert any("from 24 x 24 (the first) to the samples' 16 x 16" in text for text in found.warnings)


class _Sized(ColourGradients):
    def __init__(self, seen):
        self._seen = seen

    def __call__(self, pictures):
        self._seen.append(tuple(pictures.shape[-2:]))
        return super().__call__(pictures)


def test_without_data_or_readable_pictures(tmp_path):
    evaluation = Evaluation(None, [ColourGradients()], FeatureCache(tmp_path))
    with pytest.raises(DataError, match="--data"):
        evaluation.check()
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="no readable picture"):
        evaluation.measure(FileSource("set", [tmp_path / "a.png"]))


def test_figures_cannot_be_changed():
    [first, *_] = figures(feature_set(), feature_set(), FEW)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.value = 0.0

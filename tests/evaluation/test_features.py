import numpy as np
import pytest

from headrace.evaluation.features import NearestPictures, colour_features, orientation_features, recall


@pytest.fixture
def pictures():
    """40 pictures of 64 px: each a rectangle of its own place, size and colour on white."""
    random = np.random.default_rng(0)
    made = np.full((40, 64, 64, 3), 255, np.uint8)
    for picture in made:
        top, left = random.integers(0, 32, 2)
        height, width = random.integers(8, 32, 2)
        picture[top : top + height, left : left + width] = random.integers(0, 255, 3)
    return made


def test_colours_are_means_of_cells():
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    picture[0, :4, :2] = 255
    features = colour_features(picture).reshape(16, 16, 3)
    assert features[0, 0] == pytest.approx([0.5, 0.5, 0.5])
    assert features.sum() == pytest.approx(1.5)


def test_orientations_tell_vertical_from_horizontal_stripes_and_not_their_contrast_sign():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    upright, lying, inverse = orientation_features(np.stack([stripes, stripes.transpose(1, 0, 2), 255 - stripes]))
    assert np.abs(upright - inverse).max() < 1e-5
    cosine = upright @ lying / np.linalg.norm(upright) / np.linalg.norm(lying)
    assert cosine < 0.2


def test_a_flat_picture_has_no_orientation():
    assert orientation_features(np.full((1, 64, 64, 3), 77, np.uint8)).max() == pytest.approx(0)


def test_pictures_find_themselves_even_when_noisy(pictures):
    nearest = NearestPictures(pictures)
    truths = np.arange(40)
    assert recall(nearest.ranks(pictures, truths), 1) == 1.0
    noise = np.random.default_rng(1).normal(0, 25, pictures.shape)
    noisy = np.clip(pictures + noise, 0, 255).astype(np.uint8)
    assert recall(nearest.ranks(noisy, truths), 5) >= 0.9


def test_random_pixels_are_at_chance(pictures):
    noise = np.random.default_rng(2).integers(0, 256, pictures.shape, dtype=np.uint8)
    assert recall(NearestPictures(pictures).ranks(noise, np.arange(40)), 5) <= 0.3


def test_recall_counts_places_from_zero():
    assert recall(np.array([0, 4, 5, 9]), 5) == 0.5

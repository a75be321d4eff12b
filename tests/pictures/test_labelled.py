"""Pictures carry what they were made with, in every format."""

import io

import numpy as np
import pytest
from PIL import Image

from headrace.pictures.labelled import encode_labelled, read_label

SETTINGS = {"prompt": "Äpfel \U0001f34e", "negative_prompt": None, "seed": 7, "guidance_scale": 7.5}


def picture(mode="RGB"):
    pixels = np.arange(48 * 32 * 3, dtype=np.uint8).reshape(32, 48, 3)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_settings_come_back(kind, mode):
    data = encode_labelled(picture(mode), SETTINGS, kind)
    assert read_label(io.BytesIO(data)) == SETTINGS
    assert Image.open(io.BytesIO(data)).size == (48, 32)


def test_png_keeps_every_pixel_and_quality_makes_the_others_smaller():
    data = encode_labelled(picture(), SETTINGS, "png")
    assert Image.open(io.BytesIO(data)).tobytes() == picture().tobytes()
    for kind in ("jpeg", "webp"):
        small, large = (encode_labelled(picture(), SETTINGS, kind, quality) for quality in (0, 100))
        assert len(small) < len(large)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_what_does_not_fit_is_left_out_the_least_first(kind):
    long = {**SETTINGS, "prompt": "x" * 50_000, "negative_prompt": "y" * 50_000}
    found = read_label(io.BytesIO(encode_labelled(picture(), long, kind)))
    assert found == {name: value for name, value in long.items() if name != "negative_prompt"}


@pytest.mark.parametrize("data", [b"", b"no picture", encode_labelled(picture(), SETTINGS)[:200]])
def test_a_file_that_is_no_whole_picture_has_none(data):
    assert read_label(io.BytesIO(data)) is None


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_from_elsewhere_has_none(kind):
    buffer = io.BytesIO()
    picture().save(buffer, format=kind)
    buffer.seek(0)
    assert read_label(buffer) is None

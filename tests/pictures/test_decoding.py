"""From encoded pictures to pixels."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headrace.errors import DataError
from headrace.pictures.decoding import decode, decode_all, upright_size
from headrace.pictures.entry import Entry
from picture_folders import disc, encoded

sides = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(width=sides, height=sides, size=st.tuples(sides, sides), crop=st.sampled_from(["centre", "resize"]))
def test_any_picture_comes_to_any_size_and_keeps_its_colour(width, height, size, crop):
    picture = Image.new("RGB", (width, height), (10, 200, 30))
    pixels = decode(Entry("x", encoded(picture)), size, crop)
    assert pixels.shape == (*size, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == [10, 200, 30]).all()


@settings(max_examples=40, deadline=None)
@given(width=sides, height=sides)
def test_a_cut_keeps_the_middle_and_a_stretch_keeps_the_borders(width, height):
    picture = Image.new("L", (width + 4, height + 4), 255)
    picture.paste(0, (2, 2, width + 2, height + 2))
    side = min(width, height)
    cut = decode(Entry("x", encoded(picture.crop((2, 2, width + 2, height + 2)))), (side, side))
    assert (cut == 0).all()
    whole = decode(Entry("x", encoded(picture)), (64, 64), "resize")
    assert whole[0, 0, 0] > whole[32, 32, 0]
    assert whole[-1, -1, 0] > whole[32, 32, 0]


def test_the_cut_is_in_the_centre():
    picture = np.zeros((10, 31, 3), np.uint8)
    picture[:, 10:20] = 77
    picture[:, 10] = 50
    cut = decode(Entry("x", encoded(Image.fromarray(picture))), (10, 10))
    np.testing.assert_array_equal(cut, picture[:, 10:20])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(orientation):
    stored = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, "PNG", exif=exif)
    pixels = np.asarray(stored)
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels[::-1].transpose(1, 0, 2),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: pixels[:, ::-1].transpose(1, 0, 2),
    }
    entry = Entry("x", file.getvalue())
    np.testing.assert_array_equal(decode(entry), upright[orientation])
    assert upright_size(entry) == decode(entry).shape[:2]


@pytest.mark.parametrize(
    ("kind", "exif"),
    [
        ("JPEG", b"Exif\x00\x00neither II nor MM"),
        ("JPEG", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00\x12\x01"),
        ("PNG", b"Exif\x00\x00MM\x00*"),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_notes_do_not_spoil_a_picture(kind, exif):
    file = io.BytesIO()
    disc(0).crop((0, 0, 24, 20)).save(file, kind, exif=exif)
    entry = Entry("x", file.getvalue())
    assert decode(entry).shape == (20, 24, 3)
    assert upright_size(entry) == (20, 24)


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_has_no_size(content):
    assert upright_size(Entry("x", content)) is None


def test_every_mode_becomes_rgb_on_white():
    grey = np.array([[0, 256, 32768, 65535]], np.uint16)
    assert decode(Entry("x", encoded(Image.fromarray(grey))))[0, :, 1].tolist() == [0, 1, 128, 255]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 8, 7, 1, 2, 3])
    palette.putpixel((1, 0), 1)
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=0)
    assert decode(Entry("x", file.getvalue())).tolist() == [[[255, 255, 255], [1, 2, 3]]]
    half = Image.new("LA", (1, 1), (0, 127))
    assert decode(Entry("x", encoded(half))).tolist() == [[[128, 128, 128]]]
    assert decode(Entry("x", encoded(Image.new("1", (1, 1), 1)))).tolist() == [[[255, 255, 255]]]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), max_size=150))
def test_threads_keep_the_order_and_name_what_is_broken(good):
    entries = [
        Entry(f"row {n}", encoded(Image.new("RGB", (1, 1), (n, 0, 0))) if well else b"no")
        for n, well in enumerate(good)
    ]
    found = list(decode_all(iter(entries)))
    assert [entry.name for entry, _ in found] == [entry.name for entry in entries]
    for number, ((entry, pixels), well) in enumerate(zip(found, good, strict=True)):
        if well:
            assert pixels.tolist() == [[[number, 0, 0]]]
        else:
            assert isinstance(pixels, DataError)
            assert entry.name in pixels.problem


def test_only_a_little_is_read_ahead():
    taken = []
    endless = (taken.append(n) or Entry(str(n), encoded(disc(n % 5))) for n in itertools.count())
    found = decode_all(endless)
    assert [next(found)[0].name for _ in range(3)] == ["0", "1", "2"]
    found.close()
    assert len(taken) < 1000
    taken.clear()
    large = encoded(Image.effect_noise((1100, 1100), 100))  # more than a megabyte: each is a task of its own
    next(decode_all(taken.append(n) or Entry(str(n), large) for n in itertools.count()))
    assert len(taken) <= 17


def test_an_error_of_the_source_comes_through():
    def broken():
        yield Entry("a", encoded(disc(0)))
        raise DataError("the file breaks off")

    with pytest.raises(DataError, match="breaks off"):
        list(decode_all(broken()))

import resource
import struct
import zlib

import pytest
from PIL import Image

from headrace.cli.pictures import file_name, is_made, prepare_folder, read_settings, slug, write_picture
from headrace.errors import OutputError

SETTINGS = {
    "model": "m", "weights": "1", "dtype": "float32", "prompt": "red ä 苹果", "negative_prompt": None,
    "class_label": None, "plan": "p", "height": 8, "width": 8, "seed": 7, "headrace": "0.1.0",
}  # fmt: skip


@pytest.fixture
def image():
    return Image.effect_noise((64, 64), 50)


def test_file_name_tells_prompt_and_seed_and_differs_with_everything_a_picture_depends_on():
    name = file_name(SETTINGS)
    assert name.startswith("red-a-7-")
    assert name.endswith(".png")
    changes = {"model": "n", "weights": "2", "dtype": "float16", "prompt": "red b", "negative_prompt": "x"}
    changes |= {"class_label": 1, "plan": "q", "height": 16, "width": 16, "seed": 8}
    names = {file_name({**SETTINGS, key: value}) for key, value in changes.items()}
    assert len(names | {name}) == len(changes) + 1
    assert file_name({**SETTINGS, "headrace": "9"}) == name
    assert file_name(SETTINGS, "mine").startswith("mine-7-")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Red Apple!", "red-apple"), ("../../etc/passwd", "etc-passwd"), ("苹果", "picture"), (None, "picture")],
)
def test_slug_is_safe_in_a_path(text, expected):
    assert slug(text) == expected


def test_slug_is_short():
    assert len(slug("word " * 1000)) <= 40


def test_settings_come_back_from_the_file(tmp_path, image):
    path = tmp_path / "a.png"
    write_picture(path, image, SETTINGS)
    assert read_settings(path) == SETTINGS
    assert is_made(path, SETTINGS)
    assert not is_made(path, {**SETTINGS, "seed": 8})
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_damaged_and_foreign_files_are_not_taken_for_finished(tmp_path, image):
    path = tmp_path / "a.png"
    assert not is_made(path, SETTINGS)
    write_picture(path, image, SETTINGS)
    whole = path.read_bytes()
    for content in (b"", whole[:60], whole[: len(whole) // 2], whole[:900] + b"\x00\x01\x02" + whole[903:], b"text"):
        path.write_bytes(content)
        assert not is_made(path, SETTINGS), len(content)
    image.save(path)
    assert not is_made(path, SETTINGS)
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + whole[24:29]  # more pixels than Pillow opens
    path.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    assert not is_made(path, SETTINGS)


def test_a_disk_that_is_full_half_way_leaves_no_file(tmp_path, image):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a file may not grow beyond 1,000 bytes
    try:
        with pytest.raises(OutputError, match=r"a\.png"):
            write_picture(tmp_path / "a.png", image, SETTINGS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_used_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        prepare_folder(file, 0)
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_folder(file / "below", 0)
    with pytest.raises(OutputError, match="free"):
        prepare_folder(tmp_path / "new", 1 << 62)
    assert file.read_text() == "mine"


def test_folder_is_made_and_left_empty(tmp_path):
    prepare_folder(tmp_path / "a" / "b", 1)
    assert list((tmp_path / "a" / "b").iterdir()) == []

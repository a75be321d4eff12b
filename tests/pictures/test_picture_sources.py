"""Reading sets of pictures."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from headrace.errors import DataError
from headrace.pictures.decoding import decode
from headrace.pictures.entry import Entry
from headrace.pictures.folder import FileSource
from headrace.pictures.source import digest, open_source
from picture_folders import disc, encoded, write_folder, write_parquet


def test_a_folder_and_a_parquet_file_give_the_same_pictures(tmp_path):
    folder, file = (
        open_source(write_folder(tmp_path / "set", 5)),
        open_source(write_parquet(tmp_path / "set.parquet", 5)),
    )
    assert len(folder) == len(file) == 5
    for number, (one, other) in enumerate(zip(folder.entries(), file.entries(), strict=True)):
        np.testing.assert_array_equal(decode(one), np.asarray(disc(number)))
        np.testing.assert_array_equal(decode(one), decode(other))
        assert (one.label, other.label) == (None, number % 3)
    assert [entry.caption for entry in file.entries()][:2] == ["a red apple", "a green apple"]


def test_sub_folders_are_classes_and_captions_lie_beside(tmp_path):
    folder = write_folder(tmp_path / "set", 6, classes=True)
    (folder / "green" / "0001.txt").write_text("a green disc\n")
    entries = list(open_source(folder).entries())
    assert [entry.label for entry in entries] == [0, 0, 1, 1, 2, 2]  # blue, green, red
    assert [entry.caption for entry in entries if entry.caption] == ["a green disc"]


def test_a_class_is_the_first_folder_on_the_way_and_hidden_files_do_not_count(tmp_path):
    for place in ("b/deep/1.png", "b/2.png", "a/3.JPG", ".hidden/4.png", "a/._5.png"):
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        disc(0).save(file)
    source = open_source(tmp_path)
    assert source.classes == ("a", "b")
    assert [(Path(entry.name).name, entry.label) for entry in source.entries()] == [
        ("3.JPG", 0),
        ("2.png", 1),
        ("1.png", 1),
    ]
    disc(0).save(tmp_path / "loose.png")  # so the folders are no classes
    assert open_source(tmp_path).classes is None
    assert {entry.label for entry in open_source(tmp_path).entries()} == {None}


def test_a_folder_of_parquet_files_is_one_set(tmp_path):
    write_parquet(tmp_path / "all.parquet", 9)
    shards = tmp_path / "shards"
    shards.mkdir()
    write_parquet(shards / "train-00000-of-00002.parquet", 5)
    write_parquet(shards / "train-00001-of-00002.parquet", 4, first=5)
    source = open_source(shards)
    assert digest(source) == digest(open_source(tmp_path / "all.parquet")) == digest(open_source(shards / "train"))
    assert [entry.name for entry in open_source(shards, limit=3).entries()] == [
        "row 2 of train-00000-of-00002.parquet",
        "row 0 of train-00001-of-00002.parquet",
        "row 3 of train-00001-of-00002.parquet",
    ]
    write_parquet(shards / "test-00000-of-00001.parquet", 2)
    with pytest.raises(DataError, match=r"splits test, train.*shards/test"):
        open_source(shards)
    assert len(open_source(shards / "test")) == 2
    pq.write_table(pa.table({"image": [b""]}), shards / "train-00001-of-00002.parquet")
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet' has no column '(label|caption)'"):
        open_source(shards / "train")


def test_features_that_a_parquet_file_declares_are_followed(tmp_path):
    features = {"kind": {"_type": "ClassLabel", "names": ["no", "yes"]}, "scan": {"_type": "Image"}}
    noted = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"id": [5], "kind": [1], "scan": [{"bytes": encoded(disc(0)), "path": None}]})
    pq.write_table(table.replace_schema_metadata(noted), tmp_path / "set.parquet")
    source = open_source(tmp_path / "set.parquet")
    assert [entry.label for entry in source.entries()] == [1]
    assert source.classes == ("no", "yes")
    pq.write_table(table.replace_schema_metadata({b"huggingface": b"[1]"}), tmp_path / "set.parquet")
    with pytest.raises(DataError, match="no column of pictures; it has: id, kind, scan"):
        open_source(tmp_path / "set.parquet")


@pytest.mark.parametrize(
    ("label", "number"),
    [(3, 3), (0, 0), (-1, None), (None, None), (True, None), (1.0, None), ("1", None), (2**63, None)],
)
def test_only_whole_numbers_from_0_number_classes(label, number):
    assert Entry("x", b"", label).class_number == number


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_a_limit_takes_pictures_evenly(tmp_path, kind):
    path = write_folder(tmp_path / "set", 20) if kind == "folder" else write_parquet(tmp_path / "set.parquet", 20)
    source = open_source(path, limit=5)
    entries = list(source.entries())
    assert len(source) == len(entries) == 5
    for entry, number in zip(entries, [3, 7, 11, 15, 19], strict=True):
        np.testing.assert_array_equal(decode(entry), np.asarray(disc(number)))
    assert len(open_source(path, limit=50)) == 20


def test_hugging_face_columns_are_found(tmp_path):
    table = pa.table({"img": [{"bytes": encoded(disc(0)), "path": "a.png"}], "text": ["hello"], "labels": [4]})
    pq.write_table(table, tmp_path / "set.parquet")
    [entry] = open_source(tmp_path / "set.parquet").entries()
    assert (entry.label, entry.caption) == (4, "hello")
    assert decode(entry).shape == (24, 24, 3)


def test_the_digest_follows_content_labels_and_captions_but_not_names(tmp_path):
    first = digest(open_source(write_folder(tmp_path / "one", 4)))
    assert digest(open_source(write_folder(tmp_path / "two", 4))) == first
    disc(9).save(tmp_path / "two" / "0003.png")
    assert digest(open_source(tmp_path / "two")) != first
    (tmp_path / "one" / "0000.txt").write_text("a caption")
    assert digest(open_source(tmp_path / "one")) != first


def test_transparency_is_white_and_pictures_are_cut_in_the_centre():
    picture = Image.new("RGBA", (30, 10), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (10, 0, 20, 10))
    entry = Entry("x", encoded(picture))
    assert decode(entry)[0, 0].tolist() == [255, 255, 255]
    cut = decode(entry, (5, 5))
    assert cut.shape == (5, 5, 3)
    np.testing.assert_allclose(cut.reshape(-1, 3), np.tile([255, 0, 0], (25, 1)), atol=2)
    assert decode(Entry("grey", encoded(Image.new("L", (3, 4), 7)))).tolist() == np.full((4, 3, 3), 7).tolist()


def test_what_is_no_picture_is_named():
    whole = encoded(disc(1))
    jpeg = io.BytesIO()
    disc(2, 64).save(jpeg, "JPEG")
    for broken in (whole[: len(whole) // 2], jpeg.getvalue()[:300], b"", b"text", None):
        with pytest.raises(DataError, match=r"^row 7 "):
            decode(Entry("row 7", broken))


def test_sets_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no pictures"):
        open_source(tmp_path)
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(DataError, match="not a parquet file"):
        open_source(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "numbers.parquet")
    with pytest.raises(DataError, match="a, b"):
        open_source(tmp_path / "numbers.parquet")
    gone = FileSource("gone", [tmp_path / "gone.png"])
    with pytest.raises(DataError, match=r"gone\.png"):
        decode(next(gone.entries()))

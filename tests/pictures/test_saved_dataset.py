"""Hugging Face datasets saved to disk.

`data/saved_dataset` was written by `datasets` 5.2.0: DatasetDict({"train": nine, "test": three}).save_to_disk(folder,
num_shards={"train": 2, "test": 1}), with Image(), ClassLabel(["red", "green", "blue"]) and Value("string") as features
and pictures of 8 x 6 pixels, number n in colour n % 3; "train" in reverse order.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from headrace.errors import DataError
from headrace.pictures.columns import ColumnNames
from headrace.pictures.decoding import decode
from headrace.pictures.source import digest, open_source
from picture_folders import disc, encoded

SAMPLE = Path(__file__).parent / "data" / "saved_dataset"
COLOURS = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]])


@pytest.fixture
def train(tmp_path):
    return Path(shutil.copytree(SAMPLE / "train", tmp_path / "train"))


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def write_stream(folder, columns, schema=None):
    """Replaces the dataset's rows by others."""
    table = pa.table(columns, schema=schema)
    with pa.ipc.new_stream(folder / "rows.arrow", table.schema) as stream:
        stream.write_table(table)
    change(folder / "state.json", _data_files=[{"filename": "rows.arrow"}])
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))


def test_pictures_labels_and_captions_of_all_shards_in_order():
    source = open_source(SAMPLE / "train")
    entries = list(source.entries())
    assert len(source) == len(entries) == 9
    assert [entry.caption for entry in entries] == [f"number {n}" for n in range(8, -1, -1)]
    assert [entry.label for entry in entries] == [2, 1, 0] * 3
    assert source.classes == ("red", "green", "blue")
    for entry in entries:
        np.testing.assert_array_equal(decode(entry), np.broadcast_to(COLOURS[entry.label], (6, 8, 3)))
    assert entries[7].name == "row 2 of data-00001-of-00002.arrow"


def test_a_limit_takes_rows_evenly_over_the_shards():
    entries = list(open_source(SAMPLE / "train", limit=3).entries())
    assert [entry.caption for entry in entries] == ["number 6", "number 3", "number 0"]


def test_the_digest_stands_for_the_content(train):
    first = digest(open_source(SAMPLE / "train"))
    assert digest(open_source(train)) == first != digest(open_source(SAMPLE / "test"))
    files = json.loads((train / "state.json").read_text())["_data_files"]
    change(train / "state.json", _data_files=files[::-1])
    assert digest(open_source(train)) != first


def test_a_folder_of_splits_asks_which():
    with pytest.raises(DataError, match=r"splits train, test.*saved_dataset/train"):
        open_source(SAMPLE)


def test_rows_behind_an_index_table_are_refused(train):
    change(train / "state.json", _indices_files=[{"filename": "indices.arrow"}])
    with pytest.raises(DataError, match=r"index table.*flatten_indices"):
        open_source(train)


def test_pictures_that_are_named_are_read_from_their_files(train, tmp_path):
    disc(1).save(train / "beside.png")
    disc(2).save(tmp_path / "elsewhere.png")
    rows = [{"bytes": None, "path": path} for path in ("beside.png", str(tmp_path / "elsewhere.png"), "gone.png")]
    write_stream(train, {"image": [*rows, {"bytes": encoded(disc(3)), "path": "gone.png"}]})
    entries = list(open_source(train).entries())
    for entry, number in ((entries[0], 1), (entries[1], 2), (entries[3], 3)):
        np.testing.assert_array_equal(decode(entry), np.asarray(disc(number)))
    with pytest.raises(DataError, match=r"^row 2 \(gone.png\) cannot be read"):
        decode(entries[2])


def test_many_rows_keep_their_order(train):
    pictures = [encoded(Image.new("RGB", (2, 2), (n, 0, 0))) for n in range(200)]
    write_stream(train, {"image": pictures})
    assert [int(decode(entry)[0, 0, 0]) for entry in open_source(train).entries()] == list(range(200))


def test_columns_may_be_named(train):
    write_stream(train, {"image": [encoded(disc(0))], "mask": [encoded(disc(1))], "kind": [4], "words": ["hello"]})
    [entry] = open_source(train, names=ColumnNames("mask", "kind", "words")).entries()
    np.testing.assert_array_equal(decode(entry), np.asarray(disc(1)))
    assert (entry.label, entry.caption) == (4, "hello")
    with pytest.raises(DataError, match=r"no column 'sort'.*image, mask, kind, words"):
        open_source(train, names=ColumnNames(label="sort"))


def test_damaged_folders_are_named(train):
    content = (train / "data-00001-of-00002.arrow").read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        (train / "data-00001-of-00002.arrow").write_bytes(damaged)
        with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow.* is not an Arrow stream"):
            open_source(train)
    (train / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow"):
        open_source(train)
    for state in ({}, {"_data_files": [3]}, []):
        (train / "state.json").write_text(json.dumps(state))
        with pytest.raises(DataError, match=r"state\.json"):
            open_source(train)
    (train / "state.json").write_text('{"_data_files": []}')
    with pytest.raises(DataError, match="no rows"):
        open_source(train)
    (train / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset_info\.json"):
        open_source(train)


def test_columns_that_hold_no_encoded_pictures(train):
    write_stream(train, {"image": [[[1, 2], [3, 4]]]})
    with pytest.raises(DataError, match=r"list<.*not encoded pictures.*cast_column"):
        open_source(train)

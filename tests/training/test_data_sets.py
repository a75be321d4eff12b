"""Data sets as training takes them: labels, corrupt pictures, pictures in a mapped file."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from headrace.errors import DataError, OutputError
from headrace.training import decoded
from headrace.training.data import load_images
from headrace.training.tables.data import DataTable
from picture_folders import disc, encoded, write_folder, write_parquet
from real_data import data_file

SAMPLE = Path(__file__).parents[1] / "pictures" / "data" / "saved_dataset"


def load(path, **values):
    return load_images(DataTable.model_validate({"path": str(path), "size": 8, **values}))


def write_rows(path, pictures, **columns):
    pq.write_table(pa.table({"image": pictures, **columns}), path)
    return path


def test_the_forms_of_a_data_set_give_the_same_pictures(tmp_path):
    (tmp_path / "shards").mkdir()
    parquet = load(write_parquet(tmp_path / "set.parquet", 6))
    write_parquet(tmp_path / "shards" / "a.parquet", 2)
    write_parquet(tmp_path / "shards" / "b.parquet", 4, first=2)
    shards = load(tmp_path / "shards")
    folder = load(write_folder(tmp_path / "folder", 6))
    for other in (shards, folder):
        assert torch.equal(parquet.images, other.images)
    assert torch.equal(parquet.labels, shards.labels)
    assert parquet.captions == shards.captions
    assert parquet.labels.dtype == torch.int64
    assert parquet.labels.tolist() == [0, 1, 2] * 2
    assert folder.labels is None


def test_class_folders_and_saved_datasets_have_labels(tmp_path):
    folder = load(write_folder(tmp_path / "set", 6, classes=True))
    assert folder.classes == ("blue", "green", "red")
    assert folder.labels.tolist() == [0, 0, 1, 1, 2, 2]
    saved = load(SAMPLE / "train", held_out=str(SAMPLE / "test"))
    assert saved.classes == ("red", "green", "blue")
    assert saved.labels.tolist() == [2, 1, 0] * 3
    assert saved.held_out.labels.tolist() == [0, 1, 2]
    assert saved.images[0, :, 4, 4].tolist() == [0, 0, 200]
    with pytest.raises(DataError, match="splits train, test"):
        load(SAMPLE)


def test_two_sets_of_different_classes_do_not_go_together(tmp_path):
    learnt = write_folder(tmp_path / "learnt", 6, classes=True)
    held_out = write_folder(tmp_path / "held", 6, classes=True)
    assert load(learnt, held_out=str(held_out)).held_out.labels.tolist() == [0, 0, 1, 1, 2, 2]
    (held_out / "blue").rename(held_out / "yellow")
    with pytest.raises(DataError, match="blue, yellow"):
        load(learnt, held_out=str(held_out))


def test_a_stretched_picture_keeps_its_borders(tmp_path):
    picture = Image.new("RGB", (40, 10), "white")
    picture.paste("black", (10, 0, 30, 10))
    path = write_rows(tmp_path / "set.parquet", [encoded(picture)])
    assert load(path).images.float().mean() < 10
    assert load(path, crop="resize").images[0, 0, 4, 0] > 240


def test_corrupt_pictures_are_named_counted_and_left_out(tmp_path, capsys):
    pictures = [encoded(disc(number)) for number in range(20)]
    pictures[3], pictures[11], pictures[19] = b"no", pictures[11][:60], None
    path = write_rows(tmp_path / "set.parquet", pictures, label=list(range(20)))
    data = load(path, max_corrupt=0.15)
    assert data.labels.tolist() == [number for number in range(20) if number not in (3, 11, 19)]
    assert len(data.images) == len(data.captions) == len(data.names) == 17
    assert data.names[3] == "row 4"
    assert [problem.split(" is")[0].split(" cannot")[0] for problem in data.skipped] == ["row 3", "row 11", "row 19"]
    told = capsys.readouterr().err
    assert "3 of 20 pictures skipped" in told
    assert "row 11 is not a whole picture" in told
    with pytest.raises(DataError, match=r"more than 14.0% of 20 pictures.*3 so far: row 3 .*; row 11 .*; row 19 "):
        load(path, max_corrupt=0.14)
    with pytest.raises(DataError, match="1 so far: row 3"):  # the first is more than the default puts up with
        load(path)


@pytest.mark.parametrize("mapped", [False, True])
def test_nothing_is_left(tmp_path, mapped):
    keep = {"memory_map": str(tmp_path / "kept")} if mapped else {}
    path = write_rows(tmp_path / "set.parquet", [b"no", b"nothing"])
    with pytest.raises(DataError, match=r"no picture of .* is left: row 0 is no picture"):
        load(path, max_corrupt=1.0, **keep)
    with pytest.raises(DataError, match="holds no pictures"):
        load(write_rows(tmp_path / "set.parquet", pa.array([], pa.binary())), **keep)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", "dog", "cat"], "row 0 has the label 'cat'"),
        ([0, None, 1], "row 1 has no class label"),
        ([0.0, 1.0, 2.5], r"row 0 has the label 0\.0"),
        ([True, False, True], "row 0 has the label True"),
        ([0, 1, -1], "row 2 has the class label -1"),
        ([0, 7, 1], "row 1 has the class label 7, and there are 3 classes"),
        (None, "no class labels"),
    ],
)
def test_labels_that_are_no_classes_are_named_when_they_are_needed(tmp_path, labels, message):
    columns = {} if labels is None else {"label": labels}
    pictures = [encoded(disc(number)) for number in range(3)]
    data = load(write_rows(tmp_path / "set.parquet", pictures, **columns))  # they may be of no interest
    with pytest.raises(DataError, match=message):
        data.class_labels(3)


def test_a_label_column_that_is_asked_for_must_hold_whole_numbers(tmp_path):
    pictures = [encoded(disc(number)) for number in range(2)]
    path = write_rows(tmp_path / "set.parquet", pictures, kind=["x", "y"], number=[1, 0])
    assert load(path, label_column="number").class_labels(2).tolist() == [1, 0]
    with pytest.raises(DataError, match="row 0 has the label 'x'"):
        load(path, label_column="kind")
    with pytest.raises(DataError, match="no column 'sort'"):
        load(path, label_column="sort")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    good=st.lists(st.booleans(), min_size=1, max_size=40).filter(any),
    size=st.integers(8, 20),
    crop=st.sampled_from(["centre", "resize"]),
    limit=st.none() | st.integers(1, 50),
)
def test_a_mapped_set_equals_one_in_memory(tmp_path_factory, good, size, crop, limit):
    folder = tmp_path_factory.mktemp("sets")
    pictures = [encoded(disc(n, side=12 + n)) if well else b"no" for n, well in enumerate(good)]
    path = write_rows(
        folder / "set.parquet", pictures, label=list(range(len(good))), caption=[f"c{n}" for n in range(len(good))]
    )
    if not any(well for n, well in enumerate(good[:limit]) if "3" not in str(n)):
        return
    values = {"size": size, "crop": crop, "limit": limit, "max_corrupt": 1.0, "exclude": ["3"]}
    memory = load(path, **values)
    for _ in range(2):  # written, then found
        mapped = load(path, memory_map=str(folder / "kept"), **values)
        assert torch.equal(mapped.images, memory.images)
        assert torch.equal(mapped.labels, memory.labels)
        for name in ("captions", "names", "skipped"):
            assert getattr(mapped, name) == getattr(memory, name)
    assert len(list((folder / "kept").iterdir())) == 1


def test_a_mapped_set_is_decoded_once(tmp_path, monkeypatch):
    path, keep = write_parquet(tmp_path / "set.parquet", 9), str(tmp_path / "kept")
    first = load(path, memory_map=keep)
    decodings = []
    original = decoded.decode_all
    monkeypatch.setattr(decoded, "decode_all", lambda *arguments: decodings.append(1) or original(*arguments))
    copy = shutil.copy(path, tmp_path / "copy.parquet")
    again = load(copy, memory_map=keep)
    assert torch.equal(first.images, again.images)
    assert not decodings
    load(path, memory_map=keep, size=10)
    load(path, memory_map=keep, crop="resize")
    load(path, memory_map=keep, limit=3)
    load(write_parquet(path, 9, first=1), memory_map=keep)
    assert len(decodings) == 4
    assert len(list((tmp_path / "kept").iterdir())) == 5


def test_a_mapping_is_private_and_a_damaged_one_is_made_again(tmp_path):
    path, keep = write_parquet(tmp_path / "set.parquet", 5), str(tmp_path / "kept")
    first = load(path, memory_map=keep)
    right = first.images.clone()
    first.images.zero_()
    assert torch.equal(load(path, memory_map=keep).images, right)
    [entry] = (tmp_path / "kept").iterdir()
    whole = (entry / "pixels.npy").read_bytes()
    for damaged in (whole[:200], whole[:40], b""):
        (entry / "pixels.npy").write_bytes(damaged)
        assert torch.equal(load(path, memory_map=keep).images, right)
    (entry / "skipped.json").write_text('{"1": "gone"}')
    assert torch.equal(load(path, memory_map=keep).images, right)


def test_a_set_that_is_too_corrupt_leaves_no_file(tmp_path):
    path = write_rows(tmp_path / "set.parquet", [encoded(disc(0)), b"no", b"no"])
    with pytest.raises(DataError, match="corrupt"):
        load(path, memory_map=str(tmp_path / "kept"), max_corrupt=0.5)
    assert list((tmp_path / "kept").iterdir()) == []
    assert len(load(path, memory_map=str(tmp_path / "kept"), max_corrupt=0.7)) == 1
    with pytest.raises(DataError, match="corrupt"):  # a found file does not hide it
        load(path, memory_map=str(tmp_path / "kept"), max_corrupt=0.5)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"data\.memory_map"):
        load(write_parquet(tmp_path / "set.parquet", 2), memory_map=str(tmp_path / "file"))


def test_the_other_processes_of_a_run_are_silent(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    path = write_rows(tmp_path / "set.parquet", [encoded(disc(0)), b"no"])
    assert len(load(path, max_corrupt=1.0)) == 1
    assert capsys.readouterr().err == ""


def test_a_bar_tells_speed_on_a_terminal_only_when_it_takes_long(tmp_path, capsys, monkeypatch):
    from headrace.training import decoding_bar

    path = write_parquet(tmp_path / "set.parquet", 30)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard error for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    load(path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(decoding_bar, "_SECONDS_BEFORE", 0.0)
    load(path)
    shown = capsys.readouterr().err
    assert "30/30" in shown
    assert "pictures/s" in shown
    monkeypatch.delenv("FORCE_COLOR")
    load(path)
    assert capsys.readouterr().err == ""


def test_a_thousand_real_pictures():
    data = load(data_file("cifar10-test.parquet"), size=32, limit=1000)
    assert data.images.shape == (1000, 3, 32, 32)
    assert np.bincount(data.class_labels(10)).min() > 50
    assert data.skipped == ()

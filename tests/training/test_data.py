import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_recipes
import torch

from headrace.errors import DataError
from headrace.training.data import load_images, to_bytes, to_signed
from headrace.training.tables.data import DataTable


def table(**values):
    return DataTable.model_validate({"size": 16, **values})


def test_transparent_pixels_become_white_and_the_shape_keeps_its_colour(parquet):
    data = load_images(table(path=str(parquet)))
    assert data.images.shape == (6, 3, 16, 16)
    assert data.captions == tiny_recipes.CAPTIONS
    assert data.images[0, :, 0, 0].tolist() == [255, 255, 255]
    assert data.images[0, :, 8, 8].tolist() == [255, 0, 0]


def test_excluded_captions_and_the_limit(parquet):
    data = load_images(table(path=str(parquet), exclude=["circle"], limit=2))
    assert data.captions == ("red square", "green square")


def test_a_folder_of_pictures_takes_captions_from_text_files_or_names(tmp_path):
    first, second = tiny_recipes.pictures()[:2]
    first.save(tmp_path / "red_square.png")
    second.save(tmp_path / "b.png")
    (tmp_path / "b.txt").write_text("a green one\n")
    assert load_images(table(path=str(tmp_path))).captions == ("a green one", "red square")


def test_bytes_survive_the_way_to_floats_and_back():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_bytes(to_signed(every)), every)
    assert to_bytes(torch.tensor([[-3.0, 3.0]])).tolist() == [[0, 255]]


def test_what_cannot_be_read_is_named(tmp_path, parquet):
    with pytest.raises(DataError, match=r"data\.path="):
        load_images(table())
    with pytest.raises(DataError, match="no pictures at"):
        load_images(table(path=str(tmp_path / "none.parquet")))
    with pytest.raises(DataError, match="no column 'picture'"):
        load_images(table(path=str(parquet), image_column="picture"))
    with pytest.raises(DataError, match="no picture"):
        load_images(table(path=str(parquet), exclude=["e"]))
    (tmp_path / "torn.parquet").write_bytes(parquet.read_bytes()[:100])
    with pytest.raises(DataError, match="not a parquet file"):
        load_images(table(path=str(tmp_path / "torn.parquet")))
    pq.write_table(pa.table({"image": [b"no picture"], "caption": ["a"]}), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match="row 0 is no picture"):
        load_images(table(path=str(tmp_path / "bad.parquet")))

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_recipes

from headrace.training.recipe import parse_recipe


@pytest.fixture
def parquet(tmp_path):
    return tiny_recipes.write_parquet(tmp_path / "shapes.parquet")


@pytest.fixture
def tiny_recipe(parquet):
    return parse_recipe(tiny_recipes.recipe(parquet))


@pytest.fixture
def labelled(tmp_path):
    """Eight pictures of three classes."""
    images = [tiny_recipes.encoded(picture) for picture in tiny_recipes.pictures()]
    images = images + images[:2]
    columns = {"image": images, "label": [number % 3 for number in range(len(images))]}
    pq.write_table(pa.table(columns), tmp_path / "labelled.parquet")
    return tmp_path / "labelled.parquet"

import pytest
import tiny_recipes

from headrace.training.recipe import parse_recipe


@pytest.fixture
def parquet(tmp_path):
    return tiny_recipes.write_parquet(tmp_path / "shapes.parquet")


@pytest.fixture
def tiny_recipe(parquet):
    return parse_recipe(tiny_recipes.recipe(parquet))

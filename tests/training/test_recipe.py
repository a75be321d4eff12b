from pathlib import Path

import pytest
import tiny_recipes

from headrace.errors import RecipeError
from headrace.training.recipe import load_recipe, parse_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.fixture
def toml(tmp_path, parquet):
    return tiny_recipes.write_toml(tmp_path / "tiny.toml", tiny_recipes.recipe(parquet))


def test_a_recipe_keeps_its_values_and_the_order_of_its_phases(toml):
    recipe = load_recipe(toml)
    assert list(recipe.phases) == ["autoencoder", "diffusion", "decoder"]
    assert recipe.phases["diffusion"].text_encoder["hidden_size"] == 8
    assert recipe.phases["decoder"].train_encoder is False


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_recipes_of_the_repository_are_valid(path):
    assert load_recipe(path, ["data.path=somewhere.parquet"]).data.path == "somewhere.parquet"


def test_overrides_replace_values_of_any_type(toml):
    changes = ["phases.diffusion.loop.steps=3", "data.exclude=['skin tone']", "seed=9", "data.path=a b.parquet"]
    recipe = load_recipe(toml, changes)
    assert recipe.phases["diffusion"].loop.steps == 3
    assert recipe.data.exclude == ("skin tone",)
    assert (recipe.seed, recipe.data.path) == (9, "a b.parquet")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.sise=3", ["data.sise", "'size'"]),
        ("phases.diffusion.loop.step=3", ["phases.diffusion.loop.step", "'steps'"]),
        ("phases.diffusion.loop.steps='many'", ["phases.diffusion.loop.steps", "many"]),
        ("phases.diffusion.loop.learning_rate=-1", ["learning_rate", "-1"]),
        ("phases.diffusion.loop.cycle=3", ["phases.diffusion.loop.cycle", "'cycles'"]),
        ("phases.diffusion.loop.cycles=0", ["phases.diffusion.loop.cycles = 0"]),
        ("phases.diffusion.loop.cycles=2.0", ["phases.diffusion.loop.cycles = 2.0"]),
        ("phases.diffusion.loop.cycles=9", ["phases.diffusion.loop.cycles = 9", "there are only 8 steps"]),
        ("phases.diffusion.loop.cycle_decay=0.0", ["phases.diffusion.loop.cycle_decay = 0.0"]),
        ("phases.diffusion.loop.cycle_decay=1.5", ["phases.diffusion.loop.cycle_decay = 1.5"]),
        ("phases.diffusion.objective=gan", ["phases.diffusion", "gan"]),
        ("phases.diffusion.process.kind=ddpm", ["phases.diffusion.process.kind", "'ddpm'", "flow-matching"]),
        ("phases.diffusion.process.min_snr_gama=1.0", ["phases.diffusion.process.min_snr_gama", "'min_snr_gamma'"]),
        ("phases.diffusion.process.solver=3", ["phases.diffusion.process.solver = 3"]),
        ("phases.new.objective=autoencoder", ["phases.new.loop", "missing"]),
        ("seed.deep=1", ["seed.deep", "not a table"]),
        ("steps", ["'steps'", "key.subkey=value"]),
    ],
)
def test_a_bad_key_or_value_is_named(toml, override, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe(toml, [override])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_process_must_say_which_it_is(parquet):
    values = tiny_recipes.recipe(parquet)
    del values["phases"]["diffusion"]["process"]["kind"]
    with pytest.raises(RecipeError, match=r"phases\.diffusion\.process\.kind is missing"):
        parse_recipe(values)


def test_a_missing_file_and_a_file_that_is_no_toml(tmp_path):
    with pytest.raises(RecipeError, match="there is no recipe"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(RecipeError, match="not TOML"):
        load_recipe(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "binary.toml")


def test_a_recipe_with_a_base_holds_only_what_differs(tmp_path, toml):
    (tmp_path / "short.toml").write_text('base = "tiny.toml"\n[phases.diffusion.loop]\nsteps = 2\nmax_minutes = 0.5\n')
    short, whole = load_recipe(tmp_path / "short.toml"), load_recipe(toml)
    assert (short.phases["diffusion"].loop.steps, whole.phases["diffusion"].loop.steps) == (2, 8)
    assert short.phases["diffusion"].loop.max_minutes == 0.5
    assert short.phases["diffusion"].network == whole.phases["diffusion"].network
    assert short.phases["autoencoder"] == whole.phases["autoencoder"]
    (tmp_path / "shorter.toml").write_text('base = "short.toml"\n')
    with pytest.raises(RecipeError, match="base itself"):
        load_recipe(tmp_path / "shorter.toml")

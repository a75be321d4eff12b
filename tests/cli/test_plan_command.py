"""`headrace plan show`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from headrace.cli.plan import app
from headrace.errors import CorruptModelError, HeadraceError, PlanError, SolverError
from headrace.plan import Plan


def show(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, HeadraceError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_table_has_a_line_a_row_however_narrow_the_window() -> None:
    lines = show("dpm++2m", "--steps", 7).splitlines()
    assert "DPMSolverMultistepScheduler 7 steps, 7 rows, history 2" in lines[0]
    assert lines[1].split() == ["row", "timestep", "p", "q", "a", "b[0]", "b[1]"]
    assert len(lines) == 9
    assert lines[-1].split()[-3:] == ["0", "1", "0"]


def test_json_holds_every_row_and_column() -> None:
    plan = json.loads(show("ddim", "--steps", 4, "--json"))
    assert (plan["solver"], plan["steps"], plan["network_rows"]) == ("DDIMScheduler", 4, 4)
    assert [row["timestep"] for row in plan["rows"]] == [750, 500, 250, 0]
    assert plan["rows"][0]["clip"] == [-1, 1]
    assert json.loads(show("euler", "--json"))["rows"][0]["clip"] == [None, None]


def test_plots_and_saved_plans(tmp_path) -> None:
    from PIL import Image

    picture, file = tmp_path / "new" / "plan.png", tmp_path / "plan.parquet"
    output = show("euler-a", "--steps", 6, "--plot", picture, "--save", file)
    assert f"written: {picture}" in output
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(10**6)) > 50
    assert [path.name for path in picture.parent.iterdir()] == ["plan.png"]
    plan = Plan.load(file)
    assert plan.solver == "EulerAncestralDiscreteScheduler"
    cached = plan.with_columns(compute=[[True, row % 2 == 0] for row in range(6)], guidance=[5, 5, 5, 1, 1, 1])
    cached.save(file)
    table = show(file, "--plot", picture)
    assert "9 network rows" in table
    assert "#." in table


def test_a_models_own_scheduler(tiny_model) -> None:
    folder = tiny_model("ddim")
    own = json.loads(show("--model", folder, "--steps", 5, "--json"))
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert own["solver"] == config["_class_name"]
    other = json.loads(show("euler", "--model", folder, "--steps", 5, "--json"))
    assert json.loads(other["config"])["beta_end"] == config["beta_end"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["eulr"], SolverError, "Did you mean euler"),
        (["ddim", "--steps", "0"], SolverError, "steps is 0"),
        (["ddim", "--steps", "100000"], SolverError, "100000"),
        ([], SolverError, "no solver"),
        (["missing.parquet"], PlanError, "no plan file"),
        (["DDIMScheduler", "--model", "nowhere"], HeadraceError, "no model"),
    ],
)
def test_mistakes_are_typed_errors(arguments: list[str], error: type[HeadraceError], words: str) -> None:
    with pytest.raises(error, match=words):
        show(*arguments)


def test_files_that_are_no_plan_or_no_configuration(tmp_path, tiny_model) -> None:
    import shutil

    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(PlanError, match="not a plan"):
        show(text)
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("ddim"), folder)
    (folder / "scheduler" / "scheduler_config.json").write_text("[1, 2")
    with pytest.raises(CorruptModelError):
        show("--model", folder)

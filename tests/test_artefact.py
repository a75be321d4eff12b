"""Artefacts on disk: whole, and refused with the reason where they are anything else."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
from pydantic import Field

from headrace.artefact import Artefact, SolverArtefact
from headrace.errors import ArtefactError, OutputError


class Width(SolverArtefact):
    KIND: ClassVar[str] = "width"

    width: float = Field(ge=0)
    rows: tuple[tuple[bool, ...], ...] = ()


def make(**values: object) -> Width:
    return Width(**({"model": "m", "weights": "w", "solver": "s", "steps": 4, "width": 0.1} | values))


def test_what_was_saved_is_loaded(tmp_path):
    made = make(figures={"third": 1 / 3}, rows=((True, False), (False, True)))
    made.save(tmp_path / "new" / "width.json")
    assert Width.load(tmp_path / "new" / "width.json") == made
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["width.json"]
    content = json.loads((tmp_path / "new" / "width.json").read_text())
    assert content["kind"] == "width"
    assert content["date"].endswith("+00:00")


def test_artefacts_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        make().width = 2.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": -1}, "width: Input should be greater than or equal to 0"),
        ({"width": "0.5"}, "width: Input should be a valid number"),
        ({"width": float("nan")}, "width: Input should be a finite number"),
        ({"steps": 0}, "steps: "),
        ({"steps": 2.5}, "steps: "),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"rows": [[1, 0]]}, r"rows\.0\.0: "),
        ({"weights": ""}, "weights: "),
        ({"kind": "height"}, "is a 'height' artefact, not a 'width'"),
        ({"kind": None}, "is no artefact"),
        ({"figures": {"a": "b"}}, r"figures\.a: "),
    ],
)
def test_values_that_do_not_fit_are_named(tmp_path, change, words):
    file = tmp_path / "width.json"
    file.write_text(json.dumps(make().model_dump() | change))
    with pytest.raises(ArtefactError, match=words) as caught:
        Width.load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b"null", b"[" * 100_000])
def test_other_files_are_refused(tmp_path, content):
    file = tmp_path / "other.json"
    file.write_bytes(content)
    with pytest.raises(ArtefactError, match="other"):
        Width.load(file)


def test_missing_keys_files_and_folders(tmp_path):
    (tmp_path / "short.json").write_text('{"kind": "width", "model": "m"}')
    with pytest.raises(ArtefactError, match="weights: Field required"):
        Width.load(tmp_path / "short.json")
    with pytest.raises(ArtefactError, match="No such file"):
        Width.load(tmp_path / "nowhere.json")
    with pytest.raises(ArtefactError, match="directory"):
        Width.load(tmp_path)
    with pytest.raises(OutputError):
        make().save(tmp_path / "short.json" / "below.json")


def test_what_no_solver_was_measured_with_names_none():
    class Speed(Artefact):
        KIND: ClassVar[str] = "speed"

    assert not {"solver", "steps"} & set(Speed(model="m", weights="w").model_dump())


def test_an_artefact_of_another_kind_is_not_built():
    with pytest.raises(ArtefactError, match="'height'"):
        make(kind="height")

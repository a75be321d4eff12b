"""The file beside a schedule: what was saved comes back, and what was trained for something else is refused."""

from __future__ import annotations

import pytest
import torch
from reuse import artefact_of, request, with_random_layers
from safetensors import safe_open
from safetensors.torch import save_file

from headrace.errors import ArtefactError, OutputError
from headrace.techniques.block_caching.scale_shift import ScaleShift, block_channels
from headrace.techniques.block_caching.scale_shift_file import (
    FILE_NAME,
    find_scale_shift,
    load_scale_shift,
    save_scale_shift,
)


@pytest.fixture
def artefact(tiny_pipeline):
    return artefact_of(tiny_pipeline("sd1"), request("sd1"))


@pytest.fixture
def trained(tiny_pipeline, artefact):
    return with_random_layers(ScaleShift(block_channels(tiny_pipeline("sd1").network, artefact.blocks)))


def test_what_was_saved_comes_back_and_names_what_it_was_trained_for(tmp_path, artefact, trained):
    save_scale_shift(trained, artefact, tmp_path / FILE_NAME, {"distance": 0.5})
    found = find_scale_shift(tmp_path / "schedule.json", artefact)
    assert found.channels == trained.channels
    assert found.width == trained.width
    for mine, expected in zip(found.parameters(), trained.parameters(), strict=True):
        assert torch.equal(mine, expected)
    with safe_open(tmp_path / FILE_NAME, "pt") as file:
        metadata = file.metadata()
    assert (metadata["weights"], metadata["solver"], metadata["steps"]) == (artefact.weights, artefact.solver, "4")
    assert metadata["width"] == "256"
    assert metadata["figures"] == '{"distance": 0.5}'


def test_nothing_beside_a_schedule_is_nothing(tmp_path, artefact):
    assert find_scale_shift(tmp_path / "schedule.json", artefact) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "0123"}, "a model other than"),
        ({"solver": "EulerDiscreteScheduler 00"}, "a solver other than"),
        ({"steps": 5}, "a number of steps other than"),
        ({"compute": lambda lines: lines[:1] + lines[1:2] * 3}, "a cache schedule other than"),
        ({"blocks": lambda blocks: blocks[::-1]}, "blocks other than"),
    ],
)
def test_layers_of_another_schedule_are_refused(tmp_path, artefact, trained, changes, message):
    save_scale_shift(trained, artefact, tmp_path / FILE_NAME)
    changes = {name: made(getattr(artefact, name)) if callable(made) else made for name, made in changes.items()}
    other = type(artefact)(**{**dict(artefact), **changes})
    with pytest.raises(ArtefactError, match=message):
        load_scale_shift(tmp_path / FILE_NAME, other)


def test_damaged_and_foreign_files_are_refused(tmp_path, artefact, trained):
    path = tmp_path / FILE_NAME
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_scale_shift(path, artefact)
    save_scale_shift(trained, artefact, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtefactError, match="cannot be read"):
        find_scale_shift(tmp_path / "schedule.json", artefact)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(ArtefactError, match="is no block cache scale-shift file"):
        load_scale_shift(path, artefact)


@pytest.mark.parametrize("change", ["missing", "shape", "NaN"])
def test_layers_that_do_not_fit_are_refused(tmp_path, artefact, trained, change):
    path = tmp_path / FILE_NAME
    save_scale_shift(trained, artefact, path)
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = f"{artefact.blocks[0]}.weight"
    if change == "missing":
        del tensors[name]
    elif change == "shape":
        tensors[name] = tensors[name][:, 1:].contiguous()
    else:
        tensors[name][0, 0] = float("nan")
    save_file(tensors, path, metadata)
    with pytest.raises(ArtefactError, match={"missing": "one layer", "shape": "255", "NaN": "not finite"}[change]):
        load_scale_shift(path, artefact)


def test_an_unwritable_place_is_told(tmp_path, artefact, trained):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_scale_shift(trained, artefact, tmp_path / "file" / FILE_NAME)

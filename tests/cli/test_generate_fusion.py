"""`headrace generate` with images that share evaluations of the network, or one latent."""

import json
from pathlib import Path

import pytest
from PIL import Image

from fused_models import latent_model, pixel_model
from headrace.cli.pictures import read_settings


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    return pixel_model(tmp_path_factory.mktemp("models") / "fused", (1, 2, 4))


@pytest.fixture(scope="module")
def autoencoded(tmp_path_factory):
    return latent_model(tmp_path_factory.mktemp("models") / "fb-ae", 2)


def made(outcome):
    assert outcome.status == 0, outcome.err
    return [json.loads(line) for line in outcome.out.splitlines()]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, [4, 4, 2, 1]),
        ("tfs", [4, 4, 2, 1]),
        ("2", [2, 2, 2, 2]),
        ("1", None),
        ("cost:0.4375", [4, 4, 2, 1]),
        ("4:0.25,1:0.75", [4, 1, 1, 1]),
    ],
)
def test_rows_are_fused_as_asked_and_the_picture_says_so(headrace, fused, tmp_path, policy, expected):
    options = [] if policy is None else ["--fusion", policy]
    rows = made(headrace("generate", "--model", fused, "--steps", 4, "-n", 4, *options, "--out", tmp_path, "--json"))
    assert [row.get("fusion_rows") for row in rows] == [expected] * 4
    assert [read_settings(Path(row["file"])).get("fusion_rows") for row in rows] == [expected] * 4
    assert not any("padded_rows" in row for row in rows)


def test_equal_requests_are_made_in_full_groups_and_the_rest_is_padded(headrace, fused, tmp_path):
    command = ("generate", "--model", fused, "--steps", 2, "-n", 11, "--fusion", 4, "--slots", 8, "--json")
    rows = made(headrace(*command, "--out", tmp_path))
    assert [row.get("padded_rows") for row in sorted(rows, key=lambda row: row["seed"])] == [None] * 8 + [[0, 1]] * 3
    again = made(headrace(*command, "--out", tmp_path))
    assert [row["made"] for row in again] == [False] * 11
    other = made(headrace(*command, "--out", tmp_path / "other"))
    for one in rows:
        twin = next(row for row in other if row["seed"] == one["seed"])
        assert Image.open(one["file"]).tobytes() == Image.open(twin["file"]).tobytes()


def test_five_pictures_of_a_model_that_makes_two_at_once(headrace, autoencoded, tmp_path):
    command = ("generate", "--model", autoencoded, "--steps", 2, "--seed", 7, "--json", "--out", tmp_path)
    rows = made(headrace(*command, "-n", 5))
    assert [(row["seed"], row["picture"]) for row in rows] == [(7, 0), (7, 1), (8, 0), (8, 1), (9, 0)]
    files = sorted(tmp_path.iterdir())
    names = [file.name.rsplit("-", 1)[0] for file in files]
    assert names == ["picture-7-0", "picture-7-1", "picture-8-0", "picture-8-1", "picture-9-0"]
    assert len({file.read_bytes() for file in files}) == len({Image.open(file).tobytes() for file in files}) == 5
    files[1].unlink()
    more = made(headrace(*command, "-n", 6))
    assert [(row["seed"], row["picture"], row["made"]) for row in sorted(more, key=lambda row: row["file"])] == [
        (7, 0, False), (7, 1, True), (8, 0, False), (8, 1, False), (9, 0, False), (9, 1, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("0", ["K", "0", "1 or more"]),
        ("3", ["K=3", "1, 2, 4"]),
        ("4:0.5,2:0.25", ["0.75", "sum"]),
        ("cost:0.1", ["0.1", "0.25 to 1"]),
        ("fast", ["'fast'", "tfs"]),
    ],
)
def test_a_policy_that_is_none_of_the_models_is_refused(headrace, fused, tmp_path, policy, words):
    run = headrace("generate", "--model", fused, "--fusion", policy, "--out", tmp_path)
    (line,) = run.err.splitlines()
    assert run.status == 1
    assert not [word for word in words if word not in line], line
    assert not list(tmp_path.iterdir())


def test_a_fused_autoencoder_has_nothing_to_schedule(headrace, autoencoded, tmp_path):
    for policy in ("tfs", "2"):
        run = headrace("generate", "--model", autoencoded, "--fusion", policy, "--out", tmp_path)
        assert run.status == 1
        assert "2 pictures of one latent" in run.err
        assert "K is the same in every row" in run.err


def test_a_model_without_fused_networks_says_what_it_has(headrace, tiny_model, tmp_path):
    run = headrace("generate", "--model", tiny_model("ddim"), "--fusion", "tfs", "--out", tmp_path)
    assert run.status == 1
    assert "K=1 alone" in run.err


def test_a_plan_shows_its_fusion(headrace, fused):
    shown = headrace("plan", "show", "ddim", "--steps", 4, "--fusion", "tfs")
    header, *lines = [line.split() for line in shown.out.splitlines()[1:]]
    assert [line[header.index("fusion")] for line in lines] == ["4", "4", "2", "1"]
    own = json.loads(headrace("plan", "show", "--model", fused, "--steps", 2, "--fusion", "2", "--json").out)
    assert [row["fusion"] for row in own["rows"]] == [2, 2]
    refused = headrace("plan", "show", "--model", fused, "--fusion", "8")
    assert refused.status == 1
    assert "K=8" in refused.err

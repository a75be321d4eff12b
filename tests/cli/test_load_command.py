"""`headrace load` against a small server, and what it refuses."""

from __future__ import annotations

import json

import pytest

import openai_like
from headrace.serving.arrivals import Mix, poisson


@pytest.fixture(scope="module")
def server():
    clock = openai_like.Clock()
    with openai_like.serving(openai_like.create_app(clock)) as url:
        yield url, clock


def test_a_drawn_load_as_a_table_and_in_a_file(headrace, server, tmp_path):
    url, clock = server
    clock.bodies.clear()
    run = headrace(
        "load", f"{url}/v1/", "--trace", "burst:50", "--requests", 6, "--stream", 0.5, "--previews", 2, "--n", 1,
        "--deadline", 9, "--out", tmp_path / "new",
    )  # fmt: skip
    assert (run.status, run.err) == (0, "")
    for words in ("6 of 6", "images a second", "100.0%", "refused (429)"):
        assert words in run.out
    found = json.loads((tmp_path / "new" / "load.json").read_text())
    assert found["done"] == 6
    assert sum(one["previews"] for one in found["outcomes"]) == 6
    # This server does not say that it takes more than OpenAI's fields.
    assert set().union(*clock.bodies) == {"model", "prompt", "n", "stream", "partial_images"}


def test_a_recorded_trace_as_json(headrace, server, tmp_path):
    url, clock = server
    clock.bodies.clear()
    poisson(9, 100.0, Mix(((64, 96),))).save(tmp_path / "arrivals.csv")
    run = headrace("load", url, "--trace", tmp_path / "arrivals.csv", "--requests", 4, "--json")
    assert json.loads(run.out)["requests"] == 4
    assert {body["size"] for body in clock.bodies} == {"96x64"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--trace", "poisson"), "names no rate"),
        (("--trace", "poisson:0.9x"), "is not known"),
        (("--trace", "poisson:-1"), "no arrival rate"),
        (("--trace", "nothing.csv"), "cannot be read"),
        (("--steps", "many"), "no range"),
        (("--sizes", "large"), "no size"),
        (("--give-up", "-1"), "--give-up"),
        (("--model", "another"), "no model 'another'"),
        (("--api-key-env", "NO_SUCH_KEY"), "NO_SUCH_KEY"),
    ],
)
def test_what_is_refused_before_the_first_request(headrace, server, options, words):
    url, clock = server
    before = len(clock.bodies)
    run = headrace("load", url, *options)
    assert run.status == 1
    assert words in " ".join(run.err.split())
    assert len(clock.bodies) == before


def test_a_server_that_is_not_there(headrace):
    run = headrace("load", "http://127.0.0.1:9")
    assert run.status == 1
    assert "cannot be read" in run.err

"""`headrace calibrate latency`, on tiny random models."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from headrace.serving.latency_table import LatencyTable


def test_one_command_measures_and_writes_everything(headrace, tiny_model, tmp_path):
    out = tmp_path / "out"
    run = headrace(
        "calibrate", "latency", tiny_model("sd1"), "--sizes", "64x64,64x128", "--quick", "--max-rows", 2,
        "--repeats", 1, "--out", out,
    )  # fmt: skip
    assert (run.status, run.err) == (0, "")
    assert sorted(file.name for file in out.iterdir()) == ["contention.png", "latency.json", "throughput.png"]
    table = LatencyTable.load(out / "latency.json")
    assert [entry.size for entry in table.sizes] == [(64, 64), (128, 64)]
    assert table.machine
    assert table.sizes[0].grids[0].rows == (0, 1, 2)
    assert "64x128" in run.out
    assert f"chosen: {table.chunks}; at most {table.max_chunks}" in run.out
    for name in ("contention.png", "throughput.png"):
        with Image.open(out / name) as picture:
            assert len(picture.convert("RGB").getcolors(10**6)) > 20


def test_a_model_without_autoencoder_has_whole_decodings(headrace, tiny_model, tmp_path):
    run = headrace(
        "calibrate", "latency", tiny_model("ddpm-classes"), "--max-rows", 2, "--max-decodings", 1, "--repeats", 1,
        "--lane", "interleaved", "--out", tmp_path, "--json",
    )  # fmt: skip
    assert run.status == 0, run.err
    told = json.loads(run.out)
    assert (told["lane"], told["chunks"], told["max_chunks"]) == ("interleaved", 1, 1)
    assert told["saturation"]["16x16"] in (1, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["'nowhere'"]),
        (["{sd1}", "--sizes", "64"], ["'64'", "WIDTHxHEIGHT"]),
        (["{sd1}", "--sizes", "64x60"], ["60", "multiple"]),
        (["{sd1}", "--sizes", "64x64,64x64"], ["sizes", "once"]),
        (["{sd1}", "--max-rows", "0"], ["--max-rows 0"]),
        (["{sd1}", "--max-chunks", "0"], ["--max-chunks 0"]),
        (["{sd1}", "--repeats", "-1"], ["--repeats -1"]),
        (["{sd1}", "--weight", "2"], ["weight is 2"]),
        (["{sd1}", "--lane", "fast"], ["'fast'", "interleaved"]),
        (["{sd1}", "--lane", "streams"], ["no 'streams' lane", "threads"]),
        (["{sd1}", "--dtype", "float8"], ["float8"]),
    ],
)
def test_mistakes_are_one_line_before_any_work(headrace, tiny_model, tmp_path, arguments, words):
    places = {"sd1": tiny_model("sd1")}
    run = headrace("calibrate", "latency", *(text.format(**places) for text in arguments), "--out", tmp_path / "out")
    assert run.status == 1
    (line,) = run.err.splitlines()
    assert line.startswith("error: ")
    assert not [word for word in words if word not in line], line
    assert not list(tmp_path.glob("out/*"))

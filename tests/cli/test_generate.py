"""`headrace generate` from end to end, on a tiny random Stable Diffusion."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from headrace.cli.pictures import read_settings

OPTIONS = ("--steps", 2, "--solver", "dpm++2m", "--guidance", 4)


@pytest.fixture
def model(tiny_model):
    return tiny_model("sd1")


def test_one_command_makes_pictures_with_their_settings(headrace, model, tmp_path):
    out = tmp_path / "new" / "folder"
    made = headrace(
        "generate", "red apple", "--model", model, *OPTIONS, "--negative", "blue", "--size", "64x48", "--seed", 7,
        "--n", 2, "--out", out,
    )  # fmt: skip
    assert (made.status, made.err) == (0, "")
    assert made.out.startswith("2 made in ")
    files = sorted(out.iterdir())
    assert [file.name.rsplit("-", 1)[0] for file in files] == ["red-apple-7", "red-apple-8"]
    assert [Image.open(file).size for file in files] == [(64, 48)] * 2
    settings = read_settings(files[0])
    expected = {
        "prompt": "red apple",
        "negative_prompt": "blue",
        "solver": "dpm++2m",
        "steps": 2,
        "guidance_scale": 4.0,
    }
    expected |= {"width": 64, "height": 48, "seed": 7, "model": "sd1", "dtype": "float32"}
    assert expected.items() <= settings.items()


def test_json_is_one_object_a_picture_and_a_second_run_makes_only_what_is_missing(headrace, model, tmp_path):
    command = ("generate", "red apple", "--model", model, *OPTIONS, "--out", tmp_path, "--json", "--n")
    first = [json.loads(line) for line in headrace(*command, 2).out.splitlines()]
    assert [row["made"] for row in first] == [True, True]
    content = {row["file"]: Path(row["file"]).read_bytes() for row in first}
    second = [json.loads(line) for line in headrace(*command, 3).out.splitlines()]
    assert sorted((row["seed"], row["made"]) for row in second) == [(0, False), (1, False), (2, True)]
    assert all(Path(file).read_bytes() == before for file, before in content.items())


def test_a_file_of_requests_is_done_but_for_its_bad_lines(headrace, model, tmp_path):
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"prompt": "a", "name": "first"}\n{"prompt": 3}\n{"prompt": "b", "n": 2, "steps": 3}\n')
    run = headrace("generate", "--from", requests, "--model", model, "--steps", 2, "--out", tmp_path / "out")
    assert run.status == 1
    (error,) = run.err.splitlines()
    assert error.startswith("error: line 2: prompt: 3 is not accepted")
    assert "3 made" in run.out
    assert "1 failed" in run.out
    made = sorted(file.name.rsplit("-", 1)[0] for file in (tmp_path / "out").iterdir())
    assert made == ["b-0", "b-1", "first-0"]


def test_requests_come_from_standard_input_too(model, tmp_path):
    program = [sys.executable, "-c", "from headrace.cli import main; main()"]
    run = subprocess.run(
        [*program, "generate", "--from", "-", "--model", model, "--steps", "2", "--out", tmp_path, "--json"],
        input=b'{"prompt": "a"}\nbroken\n',
        capture_output=True,
        timeout=120,
    )
    assert run.returncode == 1
    assert [json.loads(line)["prompt"] for line in run.stdout.splitlines()] == ["a"]
    assert b"error: line 2: not JSON" in run.stderr
    assert b"Traceback" not in run.stderr


def test_class_conditional_and_unconditional_models(headrace, tiny_model, tmp_path):
    classes = headrace("generate", "--class", 3, "--model", tiny_model("ddpm-classes"), "--steps", 2, "--out", tmp_path)
    plain = headrace("generate", "--model", tiny_model("ddim"), "--steps", 2, "--out", tmp_path)
    assert (classes.status, plain.status) == (0, 0)
    assert sorted(read_settings(file)["class_label"] or 0 for file in tmp_path.iterdir()) == [0, 3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x", "--model", "nowhere"], ["'nowhere'", "diffusers folder"]),
        (["x", "--steps", "0"], ["steps", "0"]),
        (["x", "--steps", "100000"], ["100000", "1000"]),
        (["x", "--guidance", "-1"], ["guidance_scale", "-1"]),
        (["x", "--guidance", "nan"], ["guidance_scale", "nan"]),
        (["x", "--seed", "-1"], ["seed", "-1"]),
        (["x", "--n", "0"], ["n", "0"]),
        (["x", "--size", "12"], ["size", "'12'", "WIDTHxHEIGHT"]),
        (["x", "--size", "64x64", "--width", "64"], ["size", "64x64"]),
        (["x", "--height", "13"], ["13", "multiple of 8"]),
        (["x", "--solver", "eular"], ["eular", "euler"]),
        (["x", "--dtype", "float8"], ["float8", "bfloat16"]),
        (["x", "--device", "abacus"], ["abacus", "cpu"]),
        (["x", "--class", "2"], ["class_label"]),
        ([""], ["prompt", "empty"]),
        (["x" * 100_000], ["prompt", "10000"]),
        ([], ["prompt", "text-to-image"]),
        (["x", "--from", "lines.jsonl"], ["--from"]),
        (["--from", "lines.jsonl"], ["lines.jsonl", "No such file"]),
    ],
)
def test_bad_options_are_one_line_with_the_value_and_leave_nothing(headrace, model, tmp_path, arguments, words):
    default = [] if "--model" in arguments else ["--model", model]
    run = headrace("generate", *arguments, *default, "--out", tmp_path / "out")
    assert run.status == 1
    (line,) = run.err.splitlines()
    assert line.startswith("error: ")
    assert not [word for word in words if word not in line], line
    assert not list(tmp_path.glob("out/*"))


def test_usage_errors_fail_as_well(headrace):
    for arguments in (["generate", "x", "--steps", "ten"], ["generate", "x", "--nonsense"], ["nonsense"]):
        assert headrace(*arguments).status == 2


def test_folder_that_cannot_be_written_is_refused_before_any_work(headrace, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for out, words in ((taken, "is a file"), (taken / "below", "cannot be written")):
        run = headrace("generate", "x", "--model", "nowhere", "--out", out)  # the folder comes first, so no model error
        assert run.status == 1
        assert words in run.err
    assert taken.read_text() == "mine"

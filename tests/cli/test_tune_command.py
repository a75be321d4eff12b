"""`headrace tune` from end to end on a tiny random Stable Diffusion, and what takes its file."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from headrace.cli.pictures import read_settings
from headrace.engine import Engine
from headrace.errors import ArtefactError, HeadraceWarning
from headrace.request import Request
from headrace.tuning.acceleration import AccelerationArtefact

WORDS = ("red apple", "blue boat", "green tree", "old house")
STEPS = 5


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    file.write_text("\n".join(WORDS) + "\n\n")
    return file


@pytest.fixture(scope="module")
def tuned(tiny_model, prompts, tmp_path_factory):
    """The folder of a quick tuning, and what the command told."""
    import contextlib

    from typer.testing import CliRunner

    from headrace.cli.app import app

    out = tmp_path_factory.mktemp("tuned")
    asked = ["tune", tiny_model("sd1"), "--data", prompts, "--min-quality", 0, "--steps", STEPS, "--solver", "ddim"]
    with contextlib.redirect_stdout(io.StringIO()):
        told = CliRunner().invoke(app, [*map(str, asked), "--quick", "--batch", "1", "--out", str(out)])
    assert told.exit_code == 0, told.output
    return out, told


def test_one_command_searches_confirms_and_writes_everything(tuned):
    out, told = tuned
    assert sorted(file.name for file in out.iterdir()) == [
        "acceleration.json",
        "front.json",
        "front.png",
        "search.json",
    ]
    artefact = AccelerationArtefact.load(out / "acceleration.json")
    assert artefact.baseline.label == f"ddim {STEPS}"
    assert artefact.metric == "similarity, colour-gradients"
    assert (artefact.expected.pictures, artefact.confirmed.pictures) == (2, 2)
    assert artefact.plain_quality.value == 1.0
    front = json.loads((out / "front.json").read_text())["front"]
    costs = [one["speedup"]["value"] for one in front]
    assert costs == sorted(costs)
    assert all(0 < one["macs_share"] <= 1.05 for one in front)
    assert artefact.settings.label == front[-1]["label"]
    with Image.open(out / "front.png") as picture:
        assert len(picture.convert("RGB").getcolors(10**6)) > 20
    for words in ("the best trades", "expected", "confirmed", "rung 1/", artefact.settings.label[:20]):
        assert words in told.output, told.output


def test_a_second_run_measures_nothing_but_the_confirmation(headrace, tiny_model, prompts, tuned, tmp_path):
    out, _ = tuned
    (tmp_path / "search.json").write_bytes((out / "search.json").read_bytes())
    asked = (
        "tune",
        tiny_model("sd1"),
        "--data",
        prompts,
        "--steps",
        STEPS,
        "--solver",
        "ddim",
        "--quick",
        "--batch",
        1,
    )
    run = headrace(*asked, "--min-quality", 0, "--out", tmp_path, "--json")
    assert run.status == 0, run.err
    lines = run.err.splitlines()
    assert lines
    assert all(line.endswith("(measured before)") for line in lines)
    told = json.loads(run.out)
    before = AccelerationArtefact.load(out / "acceleration.json")
    assert told["expected"] == before.expected.model_dump()
    assert told["settings"] == before.settings.model_dump()
    other = headrace(*asked, "--seed", 1, "--min-quality", 0, "--out", tmp_path)
    assert other.status == 1
    assert "search.json' holds a search with prompts" in other.err
    far = headrace(*asked, "--target-speedup", 900, "--out", tmp_path)
    assert far.status == 1
    assert "nothing that was found is 900 times as fast: at most" in far.err.splitlines()[-1]
    assert (tmp_path / "front.png").exists()


def test_the_engine_and_generate_take_the_file(headrace, tiny_model, tuned, tmp_path):
    file = tuned[0] / "acceleration.json"
    artefact = AccelerationArtefact.load(file)
    engine = Engine.from_pretrained(tiny_model("sd1"), acceleration=file)
    [result] = engine.generate([Request(prompt="red apple", seed=3)])
    assert (result.request.steps, result.request.solver) == (artefact.settings.steps, artefact.settings.solver)
    made = headrace(
        "generate", "red apple", "--seed", 3, "--model", tiny_model("sd1"), "--acceleration", file, "--out", tmp_path
    )
    assert made.status == 0, made.err
    [picture] = tmp_path.iterdir()
    assert read_settings(picture)["acceleration"] == artefact.identity
    assert np.array_equal(np.asarray(Image.open(picture)), result.pixels)
    engine = Engine.from_pretrained(tiny_model("sd1"), acceleration=_without_schedule(file, tmp_path))
    with pytest.warns(HeadraceWarning, match=f"in {artefact.steps} steps, and a request has DDIMScheduler in 9"):
        engine.plan(Request(prompt="red apple", steps=9, solver="ddim"))


def _without_schedule(file, folder):
    values = json.loads(file.read_text())
    values["schedule"] = None
    values["settings"] |= {"block_saving": 0.0, "guidance_share": 0.5}
    changed = folder / "other.json"
    changed.write_text(json.dumps(values))
    return changed


def test_files_of_other_models_and_kinds_are_refused(headrace, tiny_model, tuned, tmp_path):
    file = tuned[0] / "acceleration.json"
    with pytest.raises(ArtefactError, match=r"was tuned on sd1.*headrace tune"):
        Engine.from_pretrained(tiny_model("sd2"), acceleration=file)
    other = tmp_path / "other.json"
    other.write_text('{"kind": "latency table"}')
    with pytest.raises(ArtefactError, match=r"'latency table' artefact.*acceleration, block-cache-schedule"):
        Engine.from_pretrained(tiny_model("sd1"), acceleration=other)
    both = headrace("generate", "a", "--acceleration", file, "--block-cache", file)
    assert both.status == 1
    assert "both given" in both.err


def test_a_table_of_pictures_is_recalled(headrace, tiny_model, tmp_path):
    """Four real pictures of 32 px with captions: quality is the share of prompts whose own picture is nearest."""
    table = tmp_path / "pictures.parquet"
    encoded = []
    for number in range(4):
        stream = io.BytesIO()
        Image.new("RGB", (32, 32), (60 * number, 200 - 50 * number, 90)).save(stream, format="PNG")
        encoded.append(stream.getvalue())
    pq.write_table(pa.table({"image": encoded, "caption": list(WORDS)}), table)
    run = headrace(
        "tune", tiny_model("sd1"), "--data", table, "--target-speedup", 1, "--steps", 2, "--quick", "--batch", 2,
        "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert run.status == 0, run.err
    told = json.loads(run.out)
    assert told["metric"] == "recall@1"
    assert told["plain_quality"]["value"] in (0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{sd1}", "--data", "{prompts}"], ["neither", "speed-up of 2"]),
        (["{sd1}", "--data", "{prompts}", "--target-speedup", "2", "--min-quality", "0.5"], ["both"]),
        (["{sd1}", "--data", "{prompts}", "--target-speedup", "0.5"], ["0.5", "at least 1"]),
        (["{sd1}", "--data", "{prompts}", "--min-quality", "1.5"], ["1.5", "0 to 1"]),
        (["{sd1}", "--data", "{prompts}", "--min-quality", "nan"], ["nan"]),
        (["{sd1}", "--data", "nowhere.txt", "--target-speedup", "2"], ["nowhere.txt", "text file"]),
        (["{sd1}", "--data", "{empty}", "--target-speedup", "2"], ["no prompts"]),
        (["{sd1}", "--data", "{few}", "--target-speedup", "2"], ["2 prompts", "at least 4"]),
        (["{sd1}", "--data", "{prompts}", "--target-speedup", "2", "--prompts", "3"], ["--prompts 3"]),
        (["{sd1}", "--data", "{prompts}", "--target-speedup", "2", "--metric", "beauty"], ["'beauty'"]),
        (["{sd1}", "--data", "{prompts}", "--target-speedup", "2", "--metric", "recall"], ["no pictures to recall"]),
        (["{sd1}", "--data", "{prompts}", "--target-speedup", "2", "--solver", "eular"], ["eular"]),
        (["{ddim}", "--data", "{prompts}", "--target-speedup", "2"], ["takes no prompts"]),
        (["nowhere", "--data", "{prompts}", "--target-speedup", "2"], ["'nowhere'"]),
    ],
)
def test_mistakes_are_one_line_before_any_work(headrace, tiny_model, prompts, tmp_path, arguments, words):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "few.txt").write_text("a\nb\n")
    places = {kind: tiny_model(kind) for kind in ("sd1", "ddim")}
    places |= {"empty": tmp_path / "empty.txt", "few": tmp_path / "few.txt", "prompts": prompts}
    run = headrace("tune", *(text.format(**places) for text in arguments), "--out", tmp_path / "out")
    assert run.status == 1
    (line,) = run.err.splitlines()
    assert line.startswith("error: ")
    assert not [word for word in words if word not in line], line
    assert not list(tmp_path.glob("out/*"))

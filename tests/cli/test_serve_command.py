"""`headrace serve` as a whole: it starts, answers, drains and ends."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager

import httpx
import openai
import pytest
from PIL import Image
from typer.testing import CliRunner

from headrace.cli.app import app
from headrace.errors import ModelNotFoundError, ServiceError


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["no-such-model"], ModelNotFoundError, "no-such-model"),
        (["emoji", "--host", "0.0.0.0"], ServiceError, "key"),
        (["emoji", "--dtype", "int8"], ServiceError, "int8"),
        (["emoji", "--policy", "best"], ServiceError, "best"),
        (["emoji", "--standby", "--stall", "0"], ServiceError, "stall_s is 0"),
        (["emoji", "--host", "192.0.2.7", "--without-key"], ServiceError, "192.0.2.7"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(arguments, error, says, tmp_path):
    result = CliRunner().invoke(app, ["serve", *arguments], env={"XDG_STATE_HOME": str(tmp_path)})
    assert isinstance(result.exception, error)
    assert says in str(result.exception)


@contextmanager
def running(*arguments, **environment):
    """(process, address, lines of its standard error) of a server that is ready."""
    data = tempfile.TemporaryDirectory()
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace", "serve", *arguments, "--port", "0", "--threads", "1", "--data", data.name],
        stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")), daemon=True)
    reader.start()
    try:
        until = time.monotonic() + 120
        while not (ready := re.search(r"ready (http://\S+)", "".join(lines))):
            assert process.poll() is None, "".join(lines)
            assert time.monotonic() < until, "".join(lines)
            time.sleep(0.05)
        yield process, ready[1], lines
    finally:
        process.kill()
        process.wait()
        reader.join(5)
        data.cleanup()


def pixels(picture):
    return Image.open(io.BytesIO(base64.b64decode(picture.b64_json))).tobytes()


def test_a_real_engine_answers_and_finishes_what_it_accepted_when_told_to_end(tiny_model, tmp_path):
    key = "a-key-that-is-long-enough"
    environment = {"HEADRACE_API_KEY": key, "XDG_STATE_HOME": str(tmp_path)}
    with running(str(tiny_model("ddpm-classes")), **environment) as (process, address, lines):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)
        asked = {"prompt": "1", "extra_body": {"steps": 4, "seed": 3}}
        whole = client.images.generate(n=3, **asked)
        events = list(client.images.generate(stream=True, partial_images=2, **asked))
        answers = []
        long = {"prompt": "0", "n": 2, "extra_body": {"steps": 150}}
        asking = threading.Thread(target=lambda: answers.append(client.images.generate(**long)))
        asking.start()
        headers = {"Authorization": f"Bearer {key}"}
        while "headrace_accepted_total 6.0" not in httpx.get(f"{address}/metrics", headers=headers).text:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        while httpx.get(f"{address}/readyz").status_code != 503:
            time.sleep(0.01)
        with pytest.raises(openai.InternalServerError, match="drains"):
            client.images.generate(**asked)
        asking.join(60)
        assert process.wait(30) == 0
    assert [one.headrace["seed"] for one in whole.data] == [3, 4, 5]
    assert whole.usage.output_tokens == 12
    assert pixels(whole.data[0]) == pixels(events[-1]) != pixels(whole.data[1])
    assert [one.type.rpartition(".")[2] for one in events] == ["partial_image", "partial_image", "completed"]
    assert [one.headrace["steps"] for one in answers[0].data] == [150, 150]
    assert "all that was accepted is done" in "".join(lines)
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    assert {200, 503} <= {one["status"] for one in logged if one["event"] == "request"}
    assert key not in "".join(lines)

"""Signals: what was accepted is done, what comes is refused, and a second signal ends it at once."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest


@contextmanager
def held(drain_s):
    """(process, address, answers) of a server that has one request, which it holds."""
    program = Path(__file__).with_name("draining_server.py")
    process = subprocess.Popen(
        [sys.executable, program, str(drain_s)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    answers = []

    def ask():
        try:
            answers.append(httpx.post(f"{address}/v1/images/generations", json={"prompt": "x"}, timeout=60).status_code)
        except httpx.HTTPError as error:
            answers.append(type(error))

    try:
        address = process.stdout.readline().strip()
        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: "headrace_accepted_total 1.0" in httpx.get(f"{address}/metrics").text)
        yield process, address, answers
        asking.join(30)
    finally:
        process.kill()
        process.wait()


def wait_for(true):
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number):
    with held(60) as (process, address, answers):
        process.send_signal(number)
        wait_for(lambda: httpx.get(f"{address}/readyz").status_code == 503)
        refused = httpx.post(f"{address}/v1/images/generations", json={"prompt": "x"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(30) == 0
        assert process.stdout.read() == "drained\n"
    assert answers == [200]


def test_what_is_not_done_in_time_is_failed_with_an_answer():
    with held(0.2) as (process, _, answers):
        process.terminate()
        assert process.wait(30) == 0
        assert process.stdout.read() == "given up\n"
    assert answers == [503]


def test_a_second_signal_ends_it_at_once():
    with held(600) as (process, address, _):
        process.terminate()
        wait_for(lambda: httpx.get(f"{address}/readyz").status_code == 503)
        process.terminate()
        assert process.wait(30) == 0
        assert process.stdout.read() == "given up\n"

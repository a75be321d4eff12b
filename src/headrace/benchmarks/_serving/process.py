"""A load generator in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from headrace.benchmarks._serving.generator import Job
from headrace.benchmarks._serving.outcome import Outcome
from headrace.errors import ServiceError

Advance = Callable[[float], None]
_COMMAND = (sys.executable, "-m", "headrace.benchmarks._serving.generator")


def run_load(job: Job, advance: Advance | None = None) -> list[Outcome]:
    """The outcomes of a job's requests, in their order. `advance` is told the share that has ended.

    Raises `ServiceError` where the generator's process ends early, and `HeadraceError` where the API key is not there.
    """
    job.target.headers()
    process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    found: dict[int, Outcome] = {}
    try:
        with suppress(BrokenPipeError):  # it ended at once; its status says so below
            process.stdin.write(job.to_json())
            process.stdin.close()
        for line in process.stdout:
            number, values = json.loads(line)
            found[number] = Outcome(**values)
            if advance is not None:
                advance(len(found) / len(job.asks))
        status = process.wait()
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    if status != 0 or len(found) < len(job.asks):
        raise ServiceError(
            f"the load generator ended with status {status} after {len(found)} of {len(job.asks)} requests",
            "Its own words stand above",
        )
    return [found[number] for number in range(len(job.asks))]


def start_load(job: Job, advance: Advance | None = None) -> Future[list[Outcome]]:
    """As `run_load`, beside whatever else is to be done meanwhile."""
    future: Future[list[Outcome]] = Future()

    def run() -> None:
        try:
            future.set_result(run_load(job, advance))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="headrace-load", daemon=True).start()
    return future

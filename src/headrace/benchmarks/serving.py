"""`headrace serve` under open-loop arrivals, beside a plain diffusers server; or any server of OpenAI's images API.

The peer is what people deploy: FastAPI and one pipeline that makes one request at a time (`_serving/peer.py`). Both run
in processes of their own with the same model, device and number of threads, and get the same requests, one server at a
time, in turns, from a load generator in a third process. Requests are sent when the trace says, whatever became of the
ones before (open loop), each over a connection of its own, and latency counts from then.

1. What HTTP adds to a request besides encoding (`http_overhead_ms`): one-step requests, one at a time; the median of
   what each took less what the service itself and the picture's encoding took of it.
2. The capacity of each: images a second when a crowd of requests is sent at once.
3. Poisson arrivals at 0.5, 1 and 2 of the *peer's* capacity (low, medium, high), a burst, and deadlines at its
   capacity: 10 to 30 steps, DPM++ 2M, guidance 4, the model's own size, 30 seconds of arrivals in each of two
   turns. A quick run has the high load alone. With `--data` a recorded trace (CSV or parquet, see `headrace
   simulate`) takes their place.
4. Ours alone: streamed requests with two previews at the low load; and the high load while the engine's process is
   ended with SIGKILL three times.

`throughput_ratio` is images a second at the high load, from the first arrival to the last picture, ours over the
peer's; `capacity_ratio` is that of part 2. `p99_ratio` and `mean_ratio` are of the latencies at the high load, ours
over the peer's: below 1 is better. `lost` counts requests to our server that were sent and never answered in full, in
all parts, and `errors_5xx` its answers with such a status. `max_pixel_difference` is between the two servers' pictures
of the high load, `max_pixel_difference_after_kills` between our own with and without kills, in levels of 255.

With `--url` it measures that server instead, at multiples of its own capacity, and ratios are null.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from headrace.benchmarks._progress import bars
from headrace.benchmarks.registry import BenchOptions
from headrace.benchmarks.throughput import describe_device
from headrace.errors import HeadraceError
from headrace.evaluation.machine import machine_name
from headrace.files import write_json

if TYPE_CHECKING:
    from headrace.benchmarks._serving.measure import Scale

_NEEDED = ("fastapi", "httpx", "psutil", "uvicorn")


def run(options: BenchOptions, console: Console, scale: Scale | None = None) -> Mapping[str, object]:
    """Runs the parts. Raises `ServiceError` where a server does not start, `TraceError`, `ModelError`."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise HeadraceError(f"{', '.join(missing)} is not installed", "pip install 'headrace[serve]'")
    from headrace.benchmarks._serving.display import contest_line, plot, runs_table, summary_line
    from headrace.benchmarks._serving.generator import Target
    from headrace.benchmarks._serving.measure import FULL, QUICK, Watch, compare, measure_url

    scale = scale or (QUICK if options.quick else FULL)
    about: dict[str, object] = {"scale": vars(scale)}
    with bars() as show:
        # A long run that is broken off has said what it found until then.
        watch = Watch(show, lambda found: console.print(contest_line(found), highlight=False))
        if options.url is not None:
            target = Target(options.url.rstrip("/").removesuffix("/v1"), options.api_key_env)
            study = measure_url(target, options.model, options.data, scale, watch)
            title = options.url
        else:
            study = compare(options.model, options.device, options.data, scale, watch)
            title = f"{options.model} on {describe_device(options.device)}"
            about |= {
                "model": options.model,
                "device": describe_device(options.device),
                "threads": torch.get_num_threads(),
                "machine": machine_name(torch.device(options.device)),
            }
    console.print(runs_table(study, title))
    console.print(summary_line(study), highlight=False)
    figures = {**study.figures(), **about}
    if options.out is not None:
        write_json(options.out / "serving.json", {**figures, **study.details()}, indent=1)
        plot(study, options.out / "serving.png")
    return figures

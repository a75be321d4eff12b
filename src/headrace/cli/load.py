"""`headrace load`: arrivals for a server of OpenAI's images API, whether it keeps up or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = """Examples:

headrace load http://127.0.0.1:8000 --trace poisson:2 --requests 100

headrace load http://127.0.0.1:8000 --trace burst:1 --stream 0.5 --deadline 20 --out loads

headrace load https://images.example.com --api-key-env IMAGES_KEY --model some-model --trace arrivals.csv"""


def load(
    url: Annotated[str, typer.Argument(help="of the server, as http://127.0.0.1:8000", show_default=False)],
    trace: Annotated[
        str, typer.Option(help="poisson:RATE or burst:RATE, requests a second, or a CSV or parquet file of arrivals")
    ] = "poisson:1",
    requests: Annotated[
        int | None, typer.Option(min=1, help="how many (default: 60, or all of a file)", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="the server's name of it; needed where it has several")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="environment variable that holds the API key")] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="of drawn requests, WIDTHxHEIGHT or one side, as 512,768x512 (default: the server's own)"),
    ] = None,
    steps: Annotated[str, typer.Option(help="fewest and most of drawn requests, where the server takes steps")] = "20",
    guided: Annotated[float, typer.Option(min=0, max=1, help="share of drawn requests that use guidance")] = 1.0,
    n: Annotated[int, typer.Option(min=1, help="pictures of each request")] = 1,
    stream: Annotated[float, typer.Option(min=0, max=1, help="share of requests that are streamed")] = 0.0,
    previews: Annotated[int, typer.Option(min=0, max=3, help="partial images of a streamed one")] = 1,
    deadline: Annotated[float | None, typer.Option(help="seconds that drawn requests may take")] = None,
    give_up: Annotated[float, typer.Option(help="seconds after which a request counts as lost")] = 600.0,
    seed: Annotated[int, typer.Option(min=0, help="of drawn requests")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder for load.json, with every request")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Send requests to a server when their time has come, whatever became of those before (open loop).

    Shows throughput, latency from when each request should have been sent, time to
    the first partial image, deadlines met, refusals (429) apart from other errors,
    and what was sent and never answered.

    Servers that say at /v1/models what their model takes, as headrace serve does, get
    steps, seeds and deadlines (timeout_ms); others get OpenAI's fields alone. A trace
    file is the one of headrace simulate.
    """
    from headrace.cli.load_run import Asked, send_load

    asked = Asked(
        url, trace, requests, model, api_key_env, sizes, steps, guided, n, stream, previews, deadline, give_up, seed
    )
    send_load(asked, out, as_json)

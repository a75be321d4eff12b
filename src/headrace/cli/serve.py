"""`headrace serve`: an API that image clients already speak, and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = """Examples:

headrace serve emoji

headrace serve ~/models/sd15 --device cuda --dtype float16 --acceleration fast=tuned.json --quality low=fast

HEADRACE_API_KEY=$(cat key) headrace serve emoji --host 0.0.0.0 --port 8080

headrace serve ~/models/sd15 --device cuda --cluster --autoscale 1:8 --ray-address auto

The client: OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="unused").images.generate(prompt="red apple")"""

_ENGINE, _LOAD, _ACCESS, _WORK = "The engine", "Under load", "Who may ask", "How it runs"
_CLUSTER = "More than one engine"


def serve(
    model: Annotated[str, typer.Argument(help="embedded name or diffusers folder")],
    host: Annotated[str, typer.Option(help="address to listen on; any but loopback needs a key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free")] = 8000,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0", rich_help_panel=_ENGINE)] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16", rich_help_panel=_ENGINE)] = "float32",
    slots: Annotated[
        int, typer.Option(min=1, help="pictures of the default size in work at once", rich_help_panel=_ENGINE)
    ] = 16,
    threads: Annotated[
        int | None, typer.Option(min=1, help="torch threads of the engine (default: torch's)", rich_help_panel=_ENGINE)
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="auto, synergetic, continuous, dynamic or sequential; auto is synergetic with a latency table",
            rich_help_panel=_ENGINE,
        ),
    ] = "auto",
    latency_table: Annotated[
        Path | None,
        typer.Option(help="of headrace calibrate latency (default: a small one is measured)", rich_help_panel=_ENGINE),
    ] = None,
    measure: Annotated[
        float,
        typer.Option(
            min=0, help="seconds that this may take at the start, without a table; 0: none", rich_help_panel=_ENGINE
        ),
    ] = 10.0,
    skip_window: Annotated[
        Path | None,
        typer.Option(
            help="of headrace calibrate guidance: under load, unconditional branches are left out within it",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    acceleration: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="a way to make pictures faster that requests may ask for, of headrace tune or calibrate; repeatable",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    default_acceleration: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="used where a request names none (default: none)", rich_help_panel=_ENGINE),
    ] = None,
    quality: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TIER=NAME",
            help="the acceleration that a tier (low, medium, high, ...) stands for; repeatable",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    queue: Annotated[
        int, typer.Option(min=1, help="pictures that are held at once; more is refused", rich_help_panel=_LOAD)
    ] = 256,
    max_wait: Annotated[
        float, typer.Option(help="seconds; what would take longer is refused", rich_help_panel=_LOAD)
    ] = 120.0,
    max_pictures: Annotated[int, typer.Option(min=1, help="n of one request", rich_help_panel=_LOAD)] = 10,
    max_steps: Annotated[int, typer.Option(min=1, max=1000, help="of one picture", rich_help_panel=_LOAD)] = 250,
    max_pixels: Annotated[
        int | None,
        typer.Option(min=64, help="of one picture (default: four times the default size's)", rich_help_panel=_LOAD),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="keys, one a line; one more in the variable HEADRACE_API_KEY", rich_help_panel=_ACCESS),
    ] = None,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="let everyone in who reaches the address", rich_help_panel=_ACCESS)
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="a name that this server is called by; repeatable", rich_help_panel=_ACCESS),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="whose pages may call, as https://example.org", rich_help_panel=_ACCESS),
    ] = None,
    open_metrics: Annotated[
        bool, typer.Option("--open-metrics", help="/metrics without a key", rich_help_panel=_ACCESS)
    ] = False,
    alias: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="a name that requests may call the model by as well", rich_help_panel=_WORK),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="what addresses of pictures begin with", rich_help_panel=_WORK)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="where batches are kept (default: among the user's state files)",
            rich_help_panel=_WORK,
        ),
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0, help="seconds that accepted pictures have on SIGTERM", rich_help_panel=_WORK)
    ] = 60.0,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby",
            help="keep a second process at hand (some 400 MB), so that an engine that dies is replaced within seconds",
            rich_help_panel=_WORK,
        ),
    ] = False,
    stall: Annotated[
        float,
        typer.Option(
            help="seconds in one round after which the engine counts as hung and is replaced; more for large models "
            "on a CPU",
            rich_help_panel=_WORK,
        ),
    ] = 180.0,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="several engines, on Ray Serve: one a GPU", rich_help_panel=_CLUSTER)
    ] = False,
    replicas: Annotated[
        int | None,
        typer.Option(min=1, help="engines (default: one a GPU, or a machine without one)", rich_help_panel=_CLUSTER),
    ] = None,
    autoscale: Annotated[
        str | None,
        typer.Option(metavar="MIN:MAX", help="engines, as many as the queue needs", rich_help_panel=_CLUSTER),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="a Ray cluster to join, or auto for this machine's (default: one of its own, on loopback)",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    log_format: Annotated[str, typer.Option(help="json or text", rich_help_panel=_WORK)] = "json",
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="prompts into the log", rich_help_panel=_WORK)
    ] = False,
) -> None:
    """Serve a model: OpenAI's /v1/images/generations and /v1/models, a page, /healthz, /readyz, /metrics.

    Every request is accepted or refused at once. SIGTERM and Ctrl-C drain: nothing new is taken, what was accepted is
    done, then it ends; a second one ends it at once. Logs go to standard error, one line a request.
    """
    from headrace.cli.serve_options import accelerations, api_keys, cluster_of, data_folder, hosts, log_format_of, tiers
    from headrace.cli.serve_run import Asked, serve_model

    keys = api_keys(api_key_file)
    named = accelerations(acceleration or [], default_acceleration)
    api = {
        "api_keys": keys,
        "quality": tiers(quality or [], named),
        "aliases": tuple(alias or ()),
        "max_pictures": max_pictures,
        "max_steps": max_steps,
        "allowed_hosts": hosts(host, allow_host or [], bool(keys), without_key),
        "cors_origins": tuple(cors_origin or ()),
        "public_url": public_url,
        "open_metrics": open_metrics,
        "log_prompts": log_prompts,
        "data_folder": data_folder(data, model),
    }
    engine = {
        "device": device,
        "dtype": dtype,
        "slots": slots,
        "threads": threads,
        "policy": policy,
        "latency_table": latency_table and str(latency_table),
        "measure_s": measure,
        "skip_window": skip_window and str(skip_window),
        "accelerations": named,
        "default_acceleration": default_acceleration,
        "queue": queue,
        "max_wait_s": max_wait,
        "max_pixels": max_pixels,
        "standby": standby,
        "stall_s": stall,
    }
    many = cluster_of(cluster, replicas, autoscale, ray_address, drain)
    serve_model(Asked(model, host, port, drain, log_format_of(log_format), engine, api, many))

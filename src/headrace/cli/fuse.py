"""`headrace fuse`: networks of several fusion factors into one model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from headrace.errors import OutputError

EPILOG = """Examples:

headrace fuse fused --network cifar10-k1 --network cifar10-k2 --network cifar10-k4

headrace fuse fused --network cifar10-k1 --network cifar10-k4 --policy 4:0.6,1:0.4

headrace fuse start --network stable-diffusion-v1-5 --untrained 2 --untrained 4"""


def fuse(
    out: Annotated[Path, typer.Argument(help="the model folder to write; it must not be there yet")],
    network: Annotated[
        list[str], typer.Option(help="folder of a model trained for one K (a plain one is K = 1); several")
    ],
    untrained: Annotated[
        list[int] | None,
        typer.Option(help="K to add a network for that starts from that of K = 1, to be trained; several"),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="shares of the steps where a request says nothing: 4:0.5,2:0.25,1:0.25, one K, cost:0.4 "
            "(default: tfs, the paper's; 1 with --untrained)"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Put networks for several numbers of images per evaluation (K) into one model, which then schedules them.

    All must be models of one kind: the same U-Net of one image, solver, autoencoder and text encoder, each K once.
    """
    if out.exists():
        raise OutputError(f"{str(out)!r} is there already", "Name a folder that is not, or remove it")
    from headrace.files import write_folder
    from headrace.techniques.fusebatch.collection import collect, write

    collected = collect(network, policy, untrained or ())
    write_folder(out, lambda folder: write(collected, network[0], folder))
    parameters = sum(parameter.numel() for parameter in collected.parameters())
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "factors": collected.factors, "parameters": parameters}))
    else:
        factors = ", ".join(map(str, collected.factors))
        typer.echo(f"{out}: networks for K = {factors}, {parameters / 1e6:,.1f}M parameters in all")

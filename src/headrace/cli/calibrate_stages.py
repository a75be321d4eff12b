"""`headrace calibrate stages`: where the time line of noise is cut for a decoder each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = """Examples:

headrace calibrate stages cifar10-train.parquet --out cifar10-stages

headrace calibrate stages cifar10-train.parquet --stages 5

headrace calibrate stages cifar10-train.parquet --images 2000 --samples 300 --grid-samples 16   (a look, in seconds)

headrace calibrate stages --method snr"""


def stages(
    data: Annotated[
        Path | None, typer.Argument(help="folder of images or parquet file (not for timestep and snr)")
    ] = None,
    stages: Annotated[int, typer.Option(help="at least 2; three are found by Algorithm 1, others by Algorithm 2")] = 3,
    method: Annotated[
        str, typer.Option(help="optimal-denoiser (the paper's) | timestep | snr | gradient")
    ] = "optimal-denoiser",
    kernel: Annotated[str, typer.Option(help="whose time is cut: vp | edm")] = "vp",
    samples: Annotated[int, typer.Option(help="noisy images of Algorithm 1 (the paper: 50000)")] = 5000,
    grid_samples: Annotated[
        int, typer.Option(help="images at each time of the heat map and of Algorithm 2; images that gradients are of")
    ] = 100,
    step: Annotated[float, typer.Option(help="between times of the heat map and of Algorithm 2")] = 0.05,
    eta: Annotated[float, typer.Option(help="predictions that differ by no more are equal, 0 to 1")] = 2 / 256,
    alpha: Annotated[float, typer.Option(help="mean similarity of the first and last of three stages, 0 to 1")] = 0.9,
    prediction: Annotated[str, typer.Option(help="what is compared: noise | data")] = "noise",
    end: Annotated[
        str, typer.Option(help="denoiser at time 1: mean (limit of pure noise) | own (equation 8 to the letter)")
    ] = "mean",
    model: Annotated[
        str, typer.Option(help="whose gradients: embedded name or diffusers folder")
    ] = "cifar10-ddpm-small",
    images: Annotated[
        int | None,
        typer.Option(help="use that many of the data, evenly: fewer have other stages, as another denoiser (all)"),
    ] = None,
    size: Annotated[int | None, typer.Option(help="side that images are brought to (default: the first one's)")] = None,
    seed: Annotated[int, typer.Option(help="of samples and noise")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder (default: outputs/calibrate/DATA-METHOD-STAGES)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Find the intervals of noise levels that have a decoder each (Multistage).

    The optimal denoiser of the data is evaluated in closed form, without training: each noisy image is compared with
    all images. CIFAR-10 takes minutes.

    Writes stages.json, similarity.png (between all noise levels) and, for three stages by the optimal denoiser,
    curve.png. Train with them: phases.diffusion.stages.artefact=FOLDER/stages.json.
    """
    from headrace.cli.calibrate_stages_run import StagesOptions, measure
    from headrace.techniques.multistage.calibrate import Question

    question = Question(
        stages, kernel, samples, grid_samples, eta, alpha, prediction, end, step, seed,  # type: ignore[arg-type]
    )  # fmt: skip
    measure(StagesOptions(method, data, images, size, model, question), out, as_json)

"""Quality of the embedded model: does each caption's picture look most like the emoji of that caption?

For 200 captions, evenly spread over the data set, one picture is generated (20 steps, the model's own solver and
default guidance, seed = number of the caption) and its nearest neighbour is sought among all emoji that the model was
trained on, in the feature space of `headrace.evaluation.features`. Top-k recall is the fraction of captions whose own
emoji is among the k nearest; chance is k divided by the number of emoji. The space is checked in the same run:
`self_top1` is the recall of the real emoji themselves, `noise_top5` that of random pixels. `autoencoder_psnr` is the
mean over all emoji, through the mean of the posterior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from headrace.benchmarks._progress import bars
from headrace.benchmarks.registry import BenchOptions
from headrace.engine import Engine
from headrace.errors import DataError, UnsupportedModelError
from headrace.evaluation.features import NearestPictures, recall
from headrace.evaluation.metrics.paired import psnr
from headrace.files import write_file, write_json
from headrace.models.pipelines.folder import find
from headrace.pictures.spread import spread_indices
from headrace.request import Request
from headrace.training.data import ImageSet, load_images
from headrace.training.objectives.autoencoder import reconstruct
from headrace.training.tables.data import DataTable

CAPTIONS, QUICK_CAPTIONS = 200, 24
STEPS = 20
SLOTS = 32
EXCLUDED = ("skin tone",)
_COLUMNS, _CELL_WIDTH, _CELL_HEIGHT = 8, 132, 82


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Runs the measurement. Raises `DataError` without the data set, `ModelError` for a model that cannot be used."""
    if options.data is None:
        raise DataError("this benchmark compares with the emoji themselves", "Give --data noto-emoji-128.parquet")
    folder = find(options.model)
    engine = Engine.from_pretrained(options.model, device=options.device, slots=SLOTS)
    height, width = engine.pipeline.default_size
    if height != width or height % 16:
        raise UnsupportedModelError(
            f"{options.model} makes {width}x{height} pictures", "Name a model of square pictures"
        )
    data = load_images(DataTable.model_validate({"path": str(options.data), "exclude": EXCLUDED, "size": height}))
    chosen = spread_indices(len(data), QUICK_CAPTIONS if options.quick else CAPTIONS)
    made = generate(engine, [data.captions[index] for index in chosen])
    references = pixels_last(data.images)
    order = NearestPictures(references).order(made)
    figures = {
        **recalls(order, chosen),
        "autoencoder_psnr": autoencoder_psnr(folder, data, options),
        **sanity(references, chosen),
        "captions": len(chosen),
        "emoji": len(data),
        "steps": STEPS,
        "guidance": engine.pipeline.guidance(Request(prompt="emoji")),
        "model": engine.pipeline.name,
        "device": options.device,
        "threads": torch.get_num_threads(),
    }
    console.print(_table(figures))
    if options.out is not None:
        _write(options.out, figures, labelled_grid(references, made, order, chosen, data.captions))
        console.print(f"grid and figures in {options.out}", highlight=False)
    return figures


def generate(engine: Engine, captions: Sequence[str]) -> np.ndarray:
    """uint8 [N, H, W, 3], picture i from caption i with seed i. A request that failed raises its own error."""
    requests = [Request(prompt=caption, steps=STEPS, seed=seed) for seed, caption in enumerate(captions)]
    with bars() as show:
        results = engine.generate(requests, lambda state: show("pictures", state.rows_done / state.rows_total))
    return np.stack([np.asarray(result.image.convert("RGB")) for result in results])


def pixels_last(images: torch.Tensor) -> np.ndarray:
    """uint8 [N, 3, H, W] to [N, H, W, 3]."""
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def recalls(order: np.ndarray, truths: np.ndarray) -> dict[str, float]:
    """`top1` and `top5` of neighbours [M, N], nearest first."""
    ranks = np.argmax(order == truths[:, None], axis=1)
    return {"top1": recall(ranks, 1), "top5": recall(ranks, 5)}


def sanity(references: np.ndarray, chosen: np.ndarray) -> dict[str, float]:
    """What the feature space gives for the real pictures and for random pixels."""
    nearest = NearestPictures(references)
    noise = np.random.default_rng(0).integers(0, 256, references[chosen].shape, dtype=np.uint8)
    real = nearest.ranks(references[chosen], chosen)
    return {"self_top1": recall(real, 1), "noise_top5": recall(nearest.ranks(noise, chosen), 5)}


def autoencoder_psnr(folder: Path, data: ImageSet, options: BenchOptions) -> float:
    """Mean PSNR of all reconstructions in dB (of a spread of 200 in a quick run)."""
    autoencoder = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32, local_files_only=True)
    images = data.images[spread_indices(len(data), CAPTIONS)] if options.quick else data.images
    restored = reconstruct(autoencoder.to(options.device), images)
    return float(psnr(restored, images).clamp(max=100.0).mean())


def labelled_grid(
    references: np.ndarray, made: np.ndarray, order: np.ndarray, chosen: np.ndarray, captions: Sequence[str]
) -> Image.Image:
    """Real and generated picture side by side; the caption is green for the nearest emoji, orange for one of five."""
    rows = -(-len(chosen) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _CELL_WIDTH, rows * _CELL_HEIGHT), "white")
    draw = ImageDraw.Draw(sheet)
    for number, index in enumerate(chosen):
        left, top = number % _COLUMNS * _CELL_WIDTH, number // _COLUMNS * _CELL_HEIGHT
        for column, picture in enumerate((references[index], made[number])):
            shown = Image.fromarray(picture).resize((64, 64), Image.Resampling.LANCZOS)
            sheet.paste(shown, (left + column * 65, top))
        place = int(np.argmax(order[number] == index))
        colour = "green" if place == 0 else "darkorange" if place < 5 else "red"
        draw.text((left + 2, top + 66), _fitted(captions[index], draw.textlength), fill=colour)
    return sheet


def _fitted(text: str, length: Callable[[str], float]) -> str:
    while length(text) > _CELL_WIDTH - 4:
        text = text[:-2] + "…"
    return text


def _table(figures: Mapping[str, object]) -> Table:
    table = Table(title=f"{figures['captions']} pictures against {figures['emoji']} emoji")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    return table


def _write(out: Path, figures: Mapping[str, object], grid: Image.Image) -> None:
    write_file(out / "embedded.png", grid.save)
    write_json(out / "embedded.json", figures)

"""A recipe and a data set so small that every phase takes seconds."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from headrace.training.data import load_images
from headrace.training.objectives.diffusion import DiffusionObjective
from headrace.training.objectives.objective import Batch
from headrace.training.recipe import Recipe, parse_recipe

CAPTIONS = ("red square", "green square", "blue square", "red circle", "green circle", "blue circle")

LOOP = {"steps": 8, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 2, "log_every": 2, "sample_every": 8}
LOOP |= {"checkpoint_every": 4, "mixed_precision": "no"}

AUTOENCODER = {
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 16,
}
UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "block_out_channels": [8],
    "attention_head_dim": 2,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
# Of a `UNet2DModel` in a diffusion phase.
NETWORK = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}
TEXT = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SOLVER = {"prediction_type": "v_prediction", "clip_sample": False, "steps_offset": 1, "beta_schedule": "scaled_linear"}


def recipe(data: Path) -> dict:
    """Nested values of a recipe with an autoencoder, a decoder and a diffusion phase."""
    phases = {
        "autoencoder": {"objective": "autoencoder", "network": AUTOENCODER, "loop": LOOP},
        "diffusion": {
            "objective": "text-to-image",
            "network": UNET,
            "text_encoder": TEXT,
            "process": {"kind": "variance-preserving", "min_snr_gamma": 5.0, "solver": SOLVER},
            "vocabulary": 530,
            "max_tokens": 8,
            "loop": LOOP,
        },
        "decoder": {"objective": "autoencoder", "train_encoder": False, "latent_noise": 0.1, "loop": LOOP},
    }
    return copy.deepcopy({"name": "tiny", "seed": 3, "data": {"path": str(data), "size": 16}, "phases": phases})


def diffusion(data: Path, **phase: object) -> Recipe:
    """One diffusion phase on 16 px pictures, in batches of four."""
    shared = {"objective": "diffusion", "loop": LOOP | {"batch_size": 4}, "network": NETWORK, "sample_steps": 2}
    values = {"name": "tiny", "seed": 3, "data": {"path": str(data), "size": 16}}
    return parse_recipe(values | {"phases": {"diffusion": shared | phase}})


def diffusion_objective(data: Path, **phase: object) -> DiffusionObjective:
    """That phase's objective, with the same weights each time."""
    torch.manual_seed(0)
    one = diffusion(data, **phase)
    return DiffusionObjective(one.phases["diffusion"], load_images(one.data), data.parent / "model")


def draw(made: DiffusionObjective, seed: int, count: int = 8) -> Batch:
    """A batch with all that is random in it."""
    indices = np.arange(count) % made.item_count()
    return made.batch(indices) | made.draws(count, torch.Generator().manual_seed(seed))


def loss_after_training(made, steps: int = 60) -> float:
    """The loss on draws that training does not see, as a share of what it was before."""
    unseen = [draw(made, 10**6 + number) for number in range(12)]

    @torch.no_grad()
    def loss() -> float:
        return float(np.mean([made(batch)["loss"].item() for batch in unseen]))

    before = loss()
    optimizer = torch.optim.Adam(made.trainable(), lr=4e-3)
    for seed in range(steps):
        optimizer.zero_grad()
        made(draw(made, seed))["loss"].backward()
        optimizer.step()
    return loss() / before


def pictures() -> list[Image.Image]:
    """One picture a caption, 20 px, transparent outside the shape."""
    made = []
    for caption in CAPTIONS:
        colour, shape = caption.split()
        values = np.zeros((20, 20, 4), np.uint8)
        rows, columns = np.mgrid[:20, :20]
        inside = (abs(rows - 9.5) < 6) & (abs(columns - 9.5) < 6)
        if shape == "circle":
            inside = (rows - 9.5) ** 2 + (columns - 9.5) ** 2 < 36
        values[inside] = [*(255 * (colour == name) for name in ("red", "green", "blue")), 255]
        made.append(Image.fromarray(values, "RGBA"))
    return made


def encoded(picture: Image.Image) -> bytes:
    """PNG bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def write_parquet(path: Path, repeats: int = 1) -> Path:
    """The pictures and their captions as a parquet file."""
    images = [encoded(picture) for picture in pictures()] * repeats
    pq.write_table(pa.table({"image": images, "caption": list(CAPTIONS) * repeats}), path)
    return path


def write_toml(path: Path, values: dict) -> Path:
    """Nested values as TOML."""
    lines: list[str] = []
    _table(values, (), lines)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _table(values: dict, name: tuple[str, ...], lines: list[str]) -> None:
    if name:
        lines.append(f"[{'.'.join(name)}]")
    lines += [f"{key} = {_value(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            _table(value, (*name, key), lines)


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)

"""The log as TensorBoard shows it; needs the extra `tensorboard`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from headrace.errors import TrainingError


def check_tensorboard() -> None:
    """Raises `TrainingError` where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise TrainingError("TensorBoard is not installed", "pip install 'headrace[tensorboard]', or log to CSV alone")


class Board:
    """Event files in `folder`; what an earlier run wrote after step `step` is hidden. Raises `TrainingError`."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """One point of each curve."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def show(self, step: int, picture: Image.Image) -> None:
        """A grid of samples."""
        self._writer.add_image("samples", np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

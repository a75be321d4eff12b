"""The phase that trains an image classifier, whose features evaluation can use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headrace.training.tables.loop import LoopTable
from headrace.training.tables.table import Table


class ClassifierPhase(Table):
    """Trains a `Classifier` (headrace.evaluation.extractors.classifier_network) on labelled pictures."""

    objective: Literal["classifier"]
    loop: LoopTable
    data_name: str = Field(min_length=1, description="the data set's name, for people who find the trained folder")
    classes: tuple[str, ...] = Field(min_length=2, strict=False, description="class names, in the order of the labels")
    widths: tuple[int, ...] = Field((64, 128, 256), min_length=1, strict=False, description="channels of each stage")
    mirrored: bool = Field(False, description="answer with the mean over a picture and its mirror image")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="part of the target spread evenly over the classes")
    flip: bool = Field(True, description="mirror half of the pictures")
    cutout: int = Field(0, ge=0, description="side of a square blanked somewhere, pixels (arXiv:1708.04552)")
    continued: bool = Field(False, description="start from the classifier that an earlier phase exported")
    translate: int = Field(2, ge=0, le=16, description="largest shift in pixels each way, the edge mirrored")

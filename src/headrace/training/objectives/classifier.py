"""The classifier objective: labelled pictures, and a folder that evaluation takes as a feature extractor."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import cross_entropy

from headrace.errors import DataError, RecipeError, TrainingError
from headrace.evaluation.extractors.classifier import load_classifier, save_classifier
from headrace.evaluation.extractors.classifier_network import PATCH, Classifier, ClassifierConfig
from headrace.pictures.grid import image_grid
from headrace.pictures.spread import spread
from headrace.training.augmentation import cut_out, shifted
from headrace.training.captioned import captioned
from headrace.training.data import ImageSet
from headrace.training.objectives.objective import Batch, Losses, Objective
from headrace.training.tables.classifier import ClassifierPhase
from headrace.training.whitening import whitening_filters

_SHOWN = 40
_WHITENED = 5_000
_MEASURED = 10_000
_PART = 250


@dataclass(frozen=True)
class _Judged:
    """A classifier as it would be exported, its logits [N, classes] on the held-out pictures, and what it was of."""

    classifier: Classifier
    logits: torch.Tensor
    parameters: list[torch.Tensor]


class ClassifierObjective(Objective):
    """Cross entropy with label smoothing on shifted and mirrored pictures; the stem is whitened and fixed.

    The running statistics of the batch norms are no part of what is trained or saved: averaged weights have other
    statistics than the weights whose batches they ran over, and each process sees its own batches. Wherever they are
    needed they are measured anew, on training pictures with the weights at hand, so a resumed run is the same as one
    that was not interrupted. (A batch norm sees its own process's part of a step: with several processes, or an
    accumulated gradient, a step is not quite that of one process with the whole of it.)
    """

    def __init__(self, phase: ClassifierPhase, data: ImageSet, folder: Path) -> None:
        super().__init__()
        self.phase = phase
        self.data = data
        self.labels = data.class_labels(len(phase.classes))
        if data.held_out is None:
            raise DataError("a classifier is scored on held-out pictures, and none are given", "Add data.held_out=FILE")
        self.held_out = data.held_out.images
        self.held_out_labels = data.held_out.class_labels(len(phase.classes))
        fresh = build_classifier(phase, data.images)
        self.classifier = continue_classifier(fresh, folder / "classifier") if phase.continued else fresh
        self._judged: _Judged | None = None

    def batch(self, indices: np.ndarray) -> Batch:
        """`images`: uint8 [B, 3, H, W]; `labels`: int64 [B]."""
        device = self.classifier.head.weight.device
        return {"images": self.data.images[indices].to(device), "labels": self.labels[indices].to(device)}

    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """`moves`: int64 [B, 2], of the shift; `mirrored`: bool [B]; `centres`: int64 [B, 2], of the cut."""
        device, shift = generator.device, self.phase.translate
        moves = torch.randint(-shift, shift + 1, (count, 2), generator=generator, device=device)
        mirrored = torch.rand(count, generator=generator, device=device) < (0.5 if self.phase.flip else 0.0)
        centres = torch.randint(self.classifier.config.size, (count, 2), generator=generator, device=device)
        return {"moves": moves, "mirrored": mirrored, "centres": centres}

    def forward(self, batch: Batch) -> Losses:
        """`loss`: cross entropy with smoothed labels; `accuracy`: of this batch, in training mode."""
        images = shifted(batch["images"], batch["moves"], batch["mirrored"], self.phase.translate).float() / 255
        if self.phase.cutout:
            images = cut_out(images, batch["centres"], self.phase.cutout, self.classifier.mean)
        logits = self.classifier(images).float()
        loss = cross_entropy(logits, batch["labels"], label_smoothing=self.phase.label_smoothing)
        return {"loss": loss, "accuracy": (logits.detach().argmax(1) == batch["labels"]).float().mean()}

    def item_count(self) -> int:
        """Pictures in the data set."""
        return len(self.data)

    def scores(self) -> dict[str, float]:
        """`held_out_accuracy`: of the classifier as exported."""
        return {"held_out_accuracy": self._accuracy(self._judge())}

    def sample_grid(self) -> Image.Image:
        """The held-out pictures that are taken for something else with the greatest confidence, and for what."""
        probabilities, guesses = self._judge().logits.softmax(1).max(1)
        wrong = torch.where(guesses == self.held_out_labels, -1.0, probabilities)
        names = self.phase.classes
        tiles = []
        for row in wrong.argsort(descending=True)[:_SHOWN].tolist():
            if wrong[row] >= 0:
                caption = f"{names[self.held_out_labels[row]]}\n> {names[guesses[row]]}"
                tiles.append(captioned(self.held_out[row], caption, scale=2))
        return image_grid(torch.stack(tiles), columns=8) if tiles else Image.new("RGB", (64, 64), "white")

    def export(self, folder: Path) -> None:
        """Write `classifier`, in the float16 that its stated accuracy was measured with."""
        judged = self._judge()
        save_classifier(judged.classifier, self._accuracy(judged), folder / "classifier")

    def _accuracy(self, judged: _Judged) -> float:
        return (judged.logits.argmax(1) == self.held_out_labels).double().mean().item()

    def _judge(self) -> _Judged:
        """What the present weights come to; worked out once for the same weights."""
        now = list(self.classifier.parameters())
        if self._judged is None or not all(map(torch.equal, self._judged.parameters, now)):
            parameters = [parameter.detach().clone() for parameter in now]
            finished = copy.deepcopy(self.classifier)
            measure_statistics(finished, shuffled(self.data.images, _MEASURED))
            for tensor in finished.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(tensor.half())
            self._judged = _Judged(finished, logits_of(finished, self.held_out), parameters)
        return self._judged


def build_classifier(phase: ClassifierPhase, images: torch.Tensor) -> Classifier:
    """The network that the recipe describes, its stem whitened from uint8 pictures. Raises `RecipeError`."""
    sample = spread(images, _WHITENED).float() / 255
    deviation, mean = torch.std_mean(sample, dim=(0, 2, 3))
    try:
        config = ClassifierConfig(
            model_type="headrace-classifier",
            data=phase.data_name,
            classes=phase.classes,
            size=images.shape[-1],
            widths=phase.widths,
            mean=tuple(round(value, 4) for value in mean.tolist()),
            deviation=tuple(round(max(value, 1e-2), 4) for value in deviation.tolist()),
            spatial_channels=min(7, phase.widths[0]),
            mirrored=phase.mirrored,
            accuracy=None,
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "widths"
        raise RecipeError(f"the classifier is refused: {key}: {first['msg']}", "Change the recipe") from None
    classifier = Classifier(config)
    with torch.no_grad():
        classifier.stem.weight.copy_(whitening_filters(classifier.normalised(sample), PATCH))
    classifier.stem.weight.requires_grad_(False)
    return classifier


def continue_classifier(fresh: Classifier, folder: Path) -> Classifier:
    """The classifier that an earlier phase exported, to be trained on. Raises `TrainingError` where it is another."""
    if not (folder / "config.json").exists():
        raise TrainingError(f"no classifier stands in {str(folder)!r}", "Run the classifier's first phase first")
    found = load_classifier(folder)
    if found.config.model_copy(update={"accuracy": None}) != fresh.config:
        raise TrainingError(f"the classifier in {str(folder)!r} is another than the recipe's", "Use another --out")
    for name, parameter in found.named_parameters():
        parameter.requires_grad_(name != "stem.weight")
    return found.train()  # a loaded classifier's batch norms are fixed, and would stay so


def shuffled(images: torch.Tensor, count: int) -> torch.Tensor:
    """At most `count` of N items, always the same ones, in no order: data sets are often sorted by class."""
    return images[np.random.default_rng(0).permutation(len(images))[:count]]


@torch.no_grad()
def measure_statistics(classifier: Classifier, images: torch.Tensor) -> None:
    """Set the running statistics of the batch norms to the mean over parts of uint8 pictures [N, 3, H, W].

    Each part must be a fair sample: variances within parts do not see what differs between them.
    """
    norms = [module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the parts
    classifier.train()
    for part in _parts(classifier, images):
        classifier(part)
    classifier.eval()


@torch.no_grad()
def logits_of(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Float32 [N, classes] on the host for uint8 pictures [N, 3, H, W], in inference mode."""
    classifier.eval()
    return torch.cat([classifier.answers(part)[2].cpu() for part in _parts(classifier, images)])


def _parts(classifier: Classifier, images: torch.Tensor) -> Iterator[torch.Tensor]:
    device = classifier.head.weight.device
    return (part.to(device).float() / 255 for part in images.split(_PART))

"""What a loaded pipeline tells of itself."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.errors import HeadraceError, ModelError, RequestError, SolverError
from headrace.models import solvers
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.models.pipelines.folder import find, inspect
from headrace.request import Request
from headrace.service.model_card import AccelerationCard, ModelCard
from headrace.service.settings import ServiceSettings

_AREA = 4  # times the default size's, where the operator sets no limit
_MOST_CLASSES = 1 << 31


def model_card(
    pipeline: Pipeline, settings: ServiceSettings, accelerations: tuple[AccelerationCard, ...] = ()
) -> ModelCard:
    """The card of a pipeline that is served with these settings."""
    height, width = pipeline.default_size
    conditioning = _conditioning(pipeline)
    own = pipeline.components.scheduler
    return ModelCard(
        name=settings.name or pipeline.name,
        family=pipeline.family,
        conditioning=conditioning,
        classes=_classes(pipeline) if conditioning == "class" else 0,
        guided=pipeline.guided,
        default_guidance=pipeline.default_guidance,
        default_steps=Request().steps,
        default_solver=type(own).__name__,
        default_size=(height, width),
        size_multiple=pipeline.size_multiple,
        max_pixels=min(settings.max_pixels or _AREA * height * width, settings.slots * height * width),
        pictures=pipeline.pictures,
        solvers=_solvers(own),
        fusion_factors=tuple(pipeline.fusion_factors),
        fingerprint=pipeline_fingerprint(pipeline),
        created=_created(settings.model),
        accelerations=accelerations,
        default_acceleration=settings.default_acceleration,
        device=str(pipeline.device),
        dtype=str(pipeline.dtype).removeprefix("torch."),
        class_names=_class_names(settings.model),
    )


def _conditioning(pipeline: Pipeline) -> str | None:
    """What the pipeline misses in a request that has nothing."""
    try:
        pipeline.check_conditioning(Request())
    except RequestError as error:
        return "class" if error.field == "class_label" else error.field
    return None


def _classes(pipeline: Pipeline) -> int:
    """The first label that the pipeline refuses, found by halving."""
    low, high = 0, _MOST_CLASSES
    while low < high:
        middle = (low + high) // 2
        try:
            pipeline.check_conditioning(Request(class_label=middle))
            low = middle + 1
        except RequestError:
            high = middle
    return low


def _solvers(own: object) -> tuple[str, ...]:
    """The short names that this model's configuration can be sampled with."""
    fitting = []
    for name in solvers.names():
        try:
            solvers.build(name, own)
        except (SolverError, ImportError):
            continue
        fitting.append(name)
    return tuple(fitting)


def _class_names(model: str) -> tuple[str, ...]:
    """Those that the folder's `id2label` has, as folders of DiT do; the first of several names of one class."""
    try:
        labels = inspect(model).settings.get("id2label")
    except ModelError:
        return ()
    if not isinstance(labels, dict):
        return ()
    named = {int(number): str(name).split(",")[0].strip() for number, name in labels.items() if str(number).isdigit()}
    return tuple(named[number] for number in range(len(named))) if set(named) == set(range(len(named))) else ()


def _created(model: str) -> int:
    try:
        return int(os.stat(Path(find(model)) / "model_index.json").st_mtime)
    except (HeadraceError, OSError):
        return 0

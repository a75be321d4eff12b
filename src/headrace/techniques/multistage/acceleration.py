"""Stages from an artefact, for a network that was trained with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import ArtefactError
from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.techniques.multistage.artefact import StagesArtefact
from headrace.techniques.multistage.schedule import Stages, assign

# Recipes give boundaries to three digits.
_SAME = 5e-4


@dataclass(frozen=True)
class StagesAcceleration:
    """Fills `stage` with the boundaries of an artefact."""

    artefact: StagesArtefact

    @property
    def identity(self) -> str:
        """What pictures depend on."""
        return hashlib.sha256(repr(self.artefact.boundaries).encode()).hexdigest()

    @property
    def defaults(self) -> Mapping[str, Any]:
        """None: stages suit every solver."""
        return {}

    def attach(self, pipeline: Pipeline) -> Callable[[Plan], Plan]:
        """What assigns rows to stages; the pipeline stays as it is.

        Raises `ArtefactError` where the network has no decoders for stages, or was trained with other boundaries: each
        of its decoders knows the noise levels of its own stage alone.
        """
        network: Any = pipeline.network
        if "stage" not in pipeline.columns:
            raise ArtefactError(
                f"{pipeline.name} has one decoder, so there are no stages to assign",
                "Load a model that was trained with stages",
            )
        stages, trained = self.artefact.stages, Stages(network.config["boundaries"])
        if trained.count != stages.count or not np.allclose(trained.boundaries, stages.boundaries, rtol=0, atol=_SAME):
            raise ArtefactError(
                f"the artefact divides stages at {stages.boundaries}, and {pipeline.name} was trained with "
                f"{trained.boundaries}",
                "Leave the artefact out, or train with it: phases.diffusion.stages.artefact",
            )
        return lambda plan: assign(plan, trained)


def load_stages(path: str | Path) -> StagesAcceleration:
    """The stages that `headrace calibrate stages` wrote. Raises `ArtefactError`."""
    return StagesAcceleration(StagesArtefact.load(path))

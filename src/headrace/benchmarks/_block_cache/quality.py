"""Part two: quality against latency on a trained model, beside the peers and fewer steps, in one run and one loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.benchmarks._contestants import race
from headrace.benchmarks._peers import Peer, Uncached, sample
from headrace.benchmarks._progress import bars
from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.features import NearestPictures, recall
from headrace.evaluation.metrics.gaussian import Gaussian
from headrace.evaluation.metrics.paired import psnr, ssim
from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.request import Request
from headrace.training.data import ImageSet
from headrace.tuning.judges import features, frechet

Pixels = NDArray[np.uint8]  # [N, H, W, 3]


@dataclass(frozen=True)
class Reference:
    """Real pictures with captions, and what features say of them. `chosen` are the captions that are generated."""

    data: ImageSet
    chosen: NDArray[np.int64]
    extractor: FeatureExtractor


@dataclass(frozen=True)
class Quality:
    """A contestant's pictures against the uncached ones and the real ones.

    Attributes:
        name: of the contestant.
        group: which line of the plot it belongs to.
        latency: its time over that of no cache at the same steps, in the same run.
        psnr: dB to the uncached pictures, mean over the mean squared error of all.
        ssim: to the uncached pictures, mean.
        recall: share of captions whose own real picture is nearest to the generated one; None without data.
        frechet: Frechet distance to the real pictures in the extractor's features; None without data.
    """

    name: str
    group: str
    latency: float
    psnr: float
    ssim: float
    recall: float | None
    frechet: float | None


class Judged(Protocol):
    """Pictures of a contestant, `name`, which belongs to the line `group` of the plot."""

    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def pixels(self) -> Pixels: ...


@dataclass
class Contestant:
    """A peer, the line of the plot it belongs to, and its pictures so far."""

    peer: Peer
    group: str
    pictures: list[torch.Tensor] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The peer's."""
        return self.peer.name

    @property
    def pixels(self) -> Pixels:
        """Everything that was made."""
        return np.concatenate([part.numpy() for part in self.pictures])


class Comparison:
    """The same requests for every contestant: captions, seeds and first noise, in batches that run in lockstep."""

    def __init__(self, pipeline: Pipeline, requests: Sequence[Request], batch: int) -> None:
        self._pipeline = pipeline
        self._batches = [list(requests[start : start + batch]) for start in range(0, len(requests), batch)]

    def run(self, contestants: Sequence[Contestant], plans: Mapping[int, Plan], steps: int) -> dict[str, float]:
        """Seconds of each, all in turns of one batch. `plans` by number of steps; `steps` are what is wanted."""
        self.warm_up(plans[steps])
        turns = {
            contestant.name: self.turns(contestant, plans[contestant.peer.steps(steps)]) for contestant in contestants
        }
        with bars() as show:
            return race(turns, self._pipeline.device.type, show)

    def turns(self, contestant: Contestant, plan: Plan) -> Iterator[float]:
        """A batch a turn; the pictures go to the contestant."""
        for number, requests in enumerate(self._batches, start=1):
            latents = self._sample(contestant.peer, plan, requests)
            contestant.pictures.append(self._pipeline.decode(latents).cpu())
            yield number / len(self._batches)

    def warm_up(self, plan: Plan) -> None:
        """One batch without a cache, which nobody counts."""
        for requests in self._batches[:1]:
            self._pipeline.decode(self._sample(Uncached(), plan, requests))

    @torch.inference_mode()
    def _sample(self, peer: Peer, plan: Plan, requests: Sequence[Request]) -> torch.Tensor:
        """Each request from the noise of its own seed, as the engine starts it."""
        pipeline = self._pipeline
        shape = pipeline.latent_shape(*pipeline.default_size)
        generators = [torch.Generator("cpu").manual_seed(request.seed) for request in requests]

        def draw() -> torch.Tensor:
            return torch.stack([torch.randn(shape, generator=one) for one in generators]).to(pipeline.device)

        encoded = pipeline.encode(requests)
        branches = [one.positive for one in encoded] + [one.negative or {} for one in encoded]
        text = torch.stack([branch["encoder_hidden_states"] for branch in branches])
        return sample(peer, pipeline.network, plan, draw() * plan.init_noise_sigma, text, draw)


def judge(contestants: Sequence[Judged], seconds: Mapping[str, float], reference: Reference | None) -> list[Quality]:
    """Every contestant against the first, which has no cache, and against the real pictures where there are some."""
    plain, *_ = contestants
    expected = _as_rows(plain.pixels)
    nearest, gaussian = None, None
    if reference is not None:
        real = reference.data.images.permute(0, 2, 3, 1).contiguous().numpy()
        nearest, gaussian = NearestPictures(real), Gaussian.of(features(reference.extractor, real))
    found = []
    for contestant in contestants:
        made = _as_rows(contestant.pixels)
        own_recall = distance = None
        if reference is not None and nearest is not None and gaussian is not None:
            own_recall = recall(nearest.ranks(contestant.pixels, reference.chosen), 1)
            distance = frechet(reference.extractor, contestant.pixels, gaussian)
        found.append(
            Quality(
                contestant.name,
                contestant.group,
                seconds[contestant.name] / seconds[plain.name],
                float(psnr(made.flatten(0, 1)[None], expected.flatten(0, 1)[None])[0].clamp(max=100.0)),
                float(np.mean([float(ssim(one, other).mean()) for one, other in _parts(made, expected)])),
                own_recall,
                distance,
            )
        )
    return found


def _as_rows(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _parts(made: torch.Tensor, expected: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(made.split(64), expected.split(64), strict=True)

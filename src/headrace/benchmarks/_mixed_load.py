"""The mixed load that the demo and the throughput benchmark share: requests that agree on little but the model.

Every setting is drawn uniformly and independently from a short menu, as users of one service would pick from a form;
about half of the requests keep the model's own size. Nothing is arranged so that requests agree or differ.
"""

from __future__ import annotations

import random

from headrace.benchmarks._prompts import PROMPTS
from headrace.errors import UnsupportedModelError
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request

SOLVERS = ("ddim", "dpm++2m", "euler", "unipc", "heun", "euler-a")
STEPS = (10, 20, 30, 40)
GUIDANCE = (1.0, 2.0, 4.0, 6.0, 8.0)


def mixed_load(count: int, pipeline: Pipeline, seed: int = 0) -> list[Request]:
    """`count` requests for a text-to-image model; the same for the same count, model size and seed.

    Prompts follow one another in a shuffled order, so none comes twice before each came once. Raises
    `UnsupportedModelError` for a model that takes no prompt.
    """
    if not hasattr(pipeline.components, "tokenizer"):
        raise UnsupportedModelError(
            f"{pipeline.name} takes no prompts, and the mixed load is made of them", "Use another"
        )
    draw = random.Random(seed)
    prompts = draw.sample(PROMPTS, len(PROMPTS))
    sizes = size_menu(pipeline)
    requests = []
    for index in range(count):
        height, width = draw.choice(sizes)
        requests.append(
            Request(
                prompt=prompts[index % len(prompts)],
                solver=draw.choice(SOLVERS),
                steps=draw.choice(STEPS),
                guidance_scale=draw.choice(GUIDANCE),
                height=height,
                width=width,
                seed=draw.randrange(2**31),
            )
        )
    return requests


def size_menu(pipeline: Pipeline) -> list[tuple[int, int]]:
    """(height, width) in pixels: the model's own twice, a quarter wider, a quarter taller."""
    height, width = pipeline.default_size
    multiple = pipeline.size_multiple
    taller = _rounded(height * 5 / 4, multiple), width
    wider = height, _rounded(width * 5 / 4, multiple)
    return [(height, width), (height, width), wider, taller]


def _rounded(pixels: float, multiple: int) -> int:
    return max(multiple, round(pixels / multiple) * multiple)


def settings_key(request: Request) -> tuple[object, ...]:
    """What requests must agree on to share a call of a diffusers pipeline: all but prompt and seed."""
    return request.solver, request.steps, request.guidance_scale, request.height, request.width

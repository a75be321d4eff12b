"""`/v1/engine/costs`: what a request would cost, before it is sent."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from headrace.api.context import Context
from headrace.api.errors import documented
from headrace.api.generation import Generation, generation
from headrace.api.page.live import Watching
from headrace.api.page.pace import Pace, rows_of
from headrace.api.schemas import ImageRequest
from headrace.api.settings import PLAIN
from headrace.service import ModelCard

router = APIRouter(tags=["engine"])


class Cost(BaseModel):
    """Of one request.

    `rows`: of one picture's plan. `network_rows`: of all pictures, both branches of guidance counted. `relative`: to
    one picture of the model's own settings without acceleration. `speedup`: as the acceleration's artefact measured
    it. `seconds`: by the pace that the engine was seen to have; null before it made anything. `wait_seconds`: until
    what it has is done.
    """

    pictures: int
    steps: int
    rows: int
    network_rows: int
    guided: bool
    relative: float
    speedup: float | None
    seconds: float | None
    wait_seconds: float


@router.post(
    "/v1/engine/costs", summary="What a request would cost", responses=documented(400, 401, 403, 404, 413, 422, 503)
)
async def costs(body: ImageRequest, context: Context, viewers: Watching) -> Cost:
    """Takes a body of /v1/images/generations; prompt and class may be left open. Nothing is made."""
    card = context.service.model
    filled: dict[str, object] = {"seed": 0}
    if card.conditioning == "prompt" and not (body.prompt or "").strip():
        filled["prompt"] = "-"
    if card.conditioning == "class" and body.class_label is None and not (body.prompt or "").strip():
        filled["class_label"] = 0
    asked = generation(body.model_copy(update=filled), card, context.settings)
    return _cost(asked, card, viewers.pace, context.service.status().load.clear_s)


def _cost(asked: Generation, card: ModelCard, pace: Pace, wait_s: float) -> Cost:
    request = asked.wishes[0].request
    scale = card.default_guidance if request.guidance_scale is None else request.guidance_scale
    guided = card.guided and scale != 1
    branches = 2 if guided else 1
    rows = rows_of(request.steps, request.solver or card.default_solver)
    pixels = asked.size[0] * asked.size[1]
    several = len(asked.wishes)
    used = next((one for one in card.accelerations if one.name == asked.acceleration), None)
    speedup = used.speedup if used is not None and asked.acceleration != PLAIN else None
    usual = rows_of(card.default_steps, card.default_solver) * (2 if card.guided and card.default_guidance != 1 else 1)
    own = card.default_size[0] * card.default_size[1]
    area = several * rows * branches * pixels
    seconds = pace.seconds(area, several * pixels)
    return Cost(
        pictures=asked.pictures,
        steps=request.steps,
        rows=rows,
        network_rows=several * rows * branches,
        guided=guided,
        relative=area / (usual * own),
        speedup=speedup,
        seconds=seconds,
        wait_seconds=wait_s,
    )

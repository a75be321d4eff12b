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
from headrace.service import AccelerationCard, ModelCard

router = APIRouter(tags=["engine"])


class Cost(BaseModel):
    """Of one request.

    `rows`: of one picture's plan. `network_rows`: of all pictures, both branches of guidance counted. `relative`: to
    one picture of the model's own settings without acceleration, `speedup` counted in. `speedup`: as the
    acceleration's artefact measured it with its own settings. `seconds`: by the pace that the engine was seen to have;
    null before it made anything. `wait_seconds`: until what it has is done.
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
    rows = rows_of(request.steps, request.solver or card.default_solver)
    network_rows = len(asked.wishes) * rows * (2 if guided else 1)
    pixels = asked.size[0] * asked.size[1]
    used = next((one for one in card.accelerations if one.name == asked.acceleration), None)
    return Cost(
        pictures=asked.pictures,
        steps=request.steps,
        rows=rows,
        network_rows=network_rows,
        guided=guided,
        relative=network_rows * pixels / _usual(card, used),
        speedup=used.speedup if used is not None else None,
        seconds=pace.seconds(network_rows * pixels, len(asked.wishes) * pixels),
        wait_seconds=wait_s,
    )


def _usual(card: ModelCard, used: AccelerationCard | None) -> float:
    """Network rows times pixels that cost as much as one picture of the model's own settings.

    An acceleration's speed-up is that of its own settings, fewer steps among them, so it counts from those.
    """
    own: dict[str, object] = {"steps": card.default_steps, "solver": card.default_solver}
    if used is not None and used.speedup:
        own.update({name: value for name, value in used.defaults.items() if value is not None})
    rows = rows_of(int(str(own["steps"])), str(own["solver"]))
    branches = 2 if card.guided and card.default_guidance != 1 else 1
    speedup = used.speedup if used is not None and used.speedup else 1.0
    return rows * branches * card.default_size[0] * card.default_size[1] * speedup

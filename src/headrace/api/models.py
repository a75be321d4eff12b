"""`/v1/models`: what is served, and what may be asked of it."""

from __future__ import annotations

from fastapi import APIRouter

from headrace.api.context import ApiContext, Context
from headrace.api.errors import documented
from headrace.api.generation import check_model
from headrace.api.schemas import ModelAcceleration, ModelBody, ModelList, ModelSettings

router = APIRouter(tags=["models"], responses=documented(401, 403, 500, 503))


@router.get("/v1/models", summary="The served model")
async def models(context: Context) -> ModelList:
    """A list of one."""
    return ModelList(data=[_described(context)])


@router.get("/v1/models/{model:path}", summary="The served model", responses=documented(404))
async def model(model: str, context: Context) -> ModelBody:
    """By its name, or one that the operator gave it besides."""
    check_model(model, context.service.model, context.settings)
    return _described(context)


def _described(context: ApiContext) -> ModelBody:
    card, settings = context.service.model, context.settings
    accelerations = [
        ModelAcceleration(
            name=one.name, techniques=one.techniques, speedup=one.speedup, quality=one.quality, metric=one.metric,
            defaults=one.defaults,
        )
        for one in card.accelerations
    ]  # fmt: skip
    can = ModelSettings(
        family=card.family, conditioning=card.conditioning, classes=card.classes, class_names=list(card.class_names),
        guided=card.guided, default_steps=card.default_steps, default_solver=card.default_solver,
        default_guidance=card.default_guidance, default_size=card.default_size, size_multiple=card.size_multiple,
        max_pixels=card.max_pixels, max_pictures=settings.max_pictures, max_steps=settings.max_steps,
        solvers=list(card.solvers), accelerations=accelerations, default_acceleration=card.default_acceleration,
        qualities=dict(settings.quality), fingerprint=card.fingerprint, device=card.device, dtype=card.dtype,
    )  # fmt: skip
    return ModelBody(id=card.name, created=card.created, headrace=can)

"""`/healthz`, `/readyz`, `/metrics`: for who runs the server."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.responses import Response

from headrace.api.context import Context
from headrace.api.errors import ApiError, documented

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """How the service is, in a word."""

    status: str


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> Health:
    """Always "ok": start it anew where this is not answered."""
    return Health(status="ok")


@router.get("/readyz", summary="Whether requests are taken", responses=documented(503))
async def readyz(context: Context) -> Health:
    """503 while the engine loads its model for the first time, drains or has stopped.

    While a lost engine is replaced, requests are taken and wait.
    """
    state = context.service.status().state
    if state not in ("ready", "restarting"):
        raise ApiError(503, f"the service is {state}. Ask again later", state, retry_after_s=1)
    return Health(status=state)


@router.get("/metrics", summary="For Prometheus", response_class=Response)
async def metrics(context: Context) -> Response:
    """Its text format."""
    text = await context.encoder.run(lambda: generate_latest(context.metrics.registry))
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

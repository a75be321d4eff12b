"""What the parts of one app share: made by `create_app`, found by every route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from headrace.api.encoder import Encoder
from headrace.api.metrics import Metrics
from headrace.api.picture_store import PictureStore
from headrace.api.settings import ApiSettings
from headrace.service import Service


@dataclass(frozen=True)
class ApiContext:
    """One app's service, settings and what it keeps. `log` is a structlog logger."""

    service: Service
    settings: ApiSettings
    metrics: Metrics
    encoder: Encoder
    store: PictureStore
    log: Any


async def context_of(request: Request) -> ApiContext:
    """The context of the app that a request came to. Not a plain function: those are run by threads."""
    context: ApiContext = request.app.state.context
    return context


Context = Annotated[ApiContext, Depends(context_of)]

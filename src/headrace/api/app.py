"""The app: routes, layers and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from headrace.api import health, images, models
from headrace.api.context import ApiContext
from headrace.api.edge import Edge
from headrace.api.encoder import Encoder
from headrace.api.errors import (
    ApiError,
    answer_api_error,
    answer_headrace_error,
    answer_http_exception,
    answer_validation_error,
)
from headrace.api.guard import Guard
from headrace.api.logs import make_log
from headrace.api.metrics import Metrics
from headrace.api.parts import add_parts, parts_running
from headrace.api.picture_store import PictureStore
from headrace.api.settings import ApiSettings
from headrace.errors import HeadraceError
from headrace.service import Service
from headrace.software import software

_ABOUT = "Pictures from diffusion models, for clients of OpenAI's image API. Fields of Headrace's own stand beside."


def create_app(service: Service, settings: ApiSettings | None = None, log: Any = None) -> FastAPI:
    """The HTTP side of a service, which whoever calls this starts and stops. `log`: a structlog logger."""
    settings = settings or ApiSettings()
    store = PictureStore(settings.stored_pictures, settings.stored_bytes, settings.stored_s)
    context = ApiContext(service, settings, Metrics(service), Encoder(settings.encoders), store, log or make_log())
    app = FastAPI(
        title="Headrace", version=software(), description=_ABOUT, lifespan=_lifespan(context),
        docs_url=None, redoc_url=None,  # their pages load scripts from elsewhere
        middleware=_layers(context),
    )  # fmt: skip
    app.state.context = context
    for kind, answer in (
        (ApiError, answer_api_error),
        (HeadraceError, answer_headrace_error),
        (RequestValidationError, answer_validation_error),
        (HTTPException, answer_http_exception),
    ):
        app.add_exception_handler(kind, answer)
    # `Guard` asks for the key: this says so in the documentation.
    keyed = [Depends(HTTPBearer(auto_error=False))] if settings.api_keys else []
    for part, asks in ((images, keyed), (models, keyed), (health, [])):
        app.include_router(part.router, dependencies=asks)
    add_parts(app, context)
    return app


def _layers(context: ApiContext) -> list[Middleware]:
    """From the outermost to the innermost."""
    layers = [Middleware(Edge, context)]
    if context.settings.cors_origins:
        cors = Middleware(
            CORSMiddleware, allow_origins=context.settings.cors_origins, allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"], expose_headers=["X-Request-ID"],
        )  # fmt: skip
        layers.append(cors)
    return [*layers, Middleware(Guard, context.settings)]


def _lifespan(context: ApiContext) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        unwatch = context.service.watch(context.metrics.saw_round)
        try:
            async with parts_running(app, context):
                yield
        finally:
            unwatch()
            context.encoder.close()

    return lifespan

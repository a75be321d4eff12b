"""A service, its HTTP side and the signals that end both."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.api.app import create_app
from headrace.api.logs import LogFormat, make_log
from headrace.api.server import Server, address_of, listen
from headrace.api.settings import ApiSettings
from headrace.cli.serve_display import ServeDisplay
from headrace.errors import HeadraceError
from headrace.service import Service
from headrace.service.cluster import ClusterSettings
from headrace.service.settings import ServiceSettings


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; `engine` and `api`: fields of `ServiceSettings` and `ApiSettings`.

    `cluster`: None for one engine.
    """

    model: str
    host: str
    port: int
    drain_s: float
    log_format: LogFormat
    engine: Mapping[str, Any]
    api: Mapping[str, Any]
    cluster: ClusterSettings | None = None


def serve_model(asked: Asked) -> None:
    """Serves until a signal. Raises typed errors of what can be known before the engine starts, and of its start."""
    from headrace.models.pipelines.folder import find

    engine = ServiceSettings(model=asked.model, **asked.engine)
    settings = ApiSettings(**asked.api)
    find(asked.model)  # the rest of the folder is read by the engine alone: that takes libraries of many megabytes
    listening = listen(asked.host, asked.port)
    with listening:
        run(service_of(engine, asked.cluster), engine, settings, asked, listening)


def service_of(engine: ServiceSettings, cluster: ClusterSettings | None) -> Service:
    """One supervised engine, or several. Raises `ServiceError` where Ray is wanted and not there."""
    if cluster is not None:
        from headrace.service.cluster.ray_fleet import service_on_ray

        return service_on_ray(engine, cluster)
    from headrace.service.supervisor import Supervisor

    return Supervisor(engine)


def run(service: Service, engine: ServiceSettings, settings: ApiSettings, asked: Asked, listening: Any) -> None:
    """Answers from the first moment, with 503 until the engine is ready. Raises what its start raises."""
    app = create_app(service, settings, make_log(asked.log_format))
    server = Server(app, service, asked.drain_s, asked.log_format)
    display = ServeDisplay(address_of(listening), bool(settings.api_keys))

    def start() -> None:
        try:
            service.start(engine.start_s)
            display.ready(service.model, settings)
        except HeadraceError as error:
            if not server.ending:
                server.fail(error)

    display.starting(asked.model)
    threading.Thread(target=start, name="start", daemon=True).start()
    server.serve_on(listening)
    display.ended(server.drained)

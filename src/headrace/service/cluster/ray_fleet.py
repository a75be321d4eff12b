"""Replicas on Ray Serve."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

from headrace.errors import ServiceError
from headrace.service.cluster.cluster_service import ClusterService
from headrace.service.cluster.messages import Order, ReplicaLostError, ReplicaRetiredError, Report, Said
from headrace.service.cluster.ray_local import LocalRay, check_installed, import_ray, join, leave
from headrace.service.cluster.ray_replica import RayReplica
from headrace.service.cluster.settings import ClusterSettings
from headrace.service.events import Failed
from headrace.service.service import Service
from headrace.service.settings import ServiceSettings
from headrace.service.supervisor import Supervisor

_ROUTER = "headrace.service.cluster.ray_router:ToReplica"
_POLICY = "headrace.service.cluster.scaling:ClearTimePolicy"
_ANSWER_S = 5.0  # in which replicas say that they are there
_TRIES = 3  # of a report from a replica that cannot be reached for a moment
_MOST_CALLS = 1_000_000  # of a replica at once: how many wishes it takes is its engine's to say


class RayFleet:
    """A `Fleet`: Ray Serve places a replica on a GPU each, watches and replaces them, and changes their number.

    Which replica makes a picture is decided in `ClusterService`, as it alone knows what it sent a moment ago: Ray
    Serve's routers know what replicas reported, at intervals, and count calls, which says little of their length. So
    calls go through Ray Serve's own handles, with a request router that brings them to the replica they name. A
    picture is one call that streams its events: Ray Serve sees what is under way, does not end a replica before it is
    done, and breaks the stream where the replica dies, which is how its loss is noticed.
    """

    def __init__(self, make_service: Callable[[], Service], settings: ClusterSettings, gpu: bool = False) -> None:
        """`make_service` makes each replica's engine, there: it is pickled. `gpu`: whether engines run on one each."""
        self._make_service = make_service
        self._settings = settings
        self._gpu = gpu
        self._local: LocalRay | None = None
        self._handle: Any = None

    def start(self) -> None:
        """As `Fleet.start`. Raises `ServiceError`."""
        settings = self._settings
        if settings.address is None:
            most = settings.replicas or (settings.autoscale or (1, 1))[1]
            local = LocalRay()
            local.start(most * self._cpus(most))
            self._local = local
        else:
            join(settings.address)
        try:
            self._handle = self._deploy(*import_ray())
        except ServiceError:
            raise
        except Exception as error:  # Ray raises what it likes
            problem = str(error).partition("\n")[0]
            raise ServiceError(f"Ray Serve did not take the replicas: {problem}", "See its logs") from error

    def _cpus(self, most: int) -> float:
        if self._settings.cpus is not None:
            return self._settings.cpus
        alone = self._settings.address is None and not self._gpu
        return max(1.0, (os.cpu_count() or 1) // most) if alone else 1.0

    def _deploy(self, ray: Any, serve: Any) -> Any:
        from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
        from ray.serve.schema import LoggingConfig

        settings = self._settings
        resources = ray.cluster_resources()
        gpus = settings.gpus if settings.gpus is not None else float(self._gpu)
        nodes = sum(name.startswith("node:") and "__" not in name for name in resources)
        count = settings.replicas or (int(resources.get("GPU", 0) // gpus) if gpus else nodes) or 1
        low, high = settings.autoscale or (count, count)
        if self._local is not None and low * gpus > resources.get("GPU", 0):
            raise ServiceError(f"{low} replicas need {low * gpus:g} GPUs, and there are {resources.get('GPU', 0):g}")
        scaling = None
        if settings.autoscale is not None:
            policy = AutoscalingPolicy(policy_function=_POLICY, policy_kwargs={"target_s": settings.clear_target_s})
            scaling = AutoscalingConfig(
                min_replicas=low, max_replicas=high, policy=policy, look_back_period_s=15.0,
                upscale_delay_s=settings.upscale_delay_s, downscale_delay_s=settings.downscale_delay_s,
            )  # fmt: skip
        router: Any = _ROUTER
        logging = LoggingConfig(log_level="WARNING", enable_access_log=False)
        serve.start(proxy_location="Disabled", logging_config=logging)
        options: dict[str, Any] = {"autoscaling_config": scaling} if scaling else {"num_replicas": count}
        deployment = serve.deployment(
            name="engine",
            ray_actor_options={"num_cpus": self._cpus(high), "num_gpus": gpus},
            max_ongoing_requests=_MOST_CALLS,
            health_check_period_s=2.0,
            health_check_timeout_s=30.0,
            graceful_shutdown_wait_loop_s=0.5,
            graceful_shutdown_timeout_s=settings.drain_s,
            request_router_config=RequestRouterConfig(request_router_class=router),
            logging_config=logging,
            **options,
        )(RayReplica)
        target = serve.RunTarget(target=deployment.bind(self._make_service), name=settings.name, route_prefix=None)
        return serve.run_many([target], wait_for_applications_running=False)[0]

    def stop(self) -> None:
        """As `Fleet.stop`. On a cluster of others, only what was started here ends."""
        if self._handle is not None:
            _, serve = import_ray()
            with suppress(Exception):  # a Ray that is gone has no replicas either
                self._handle.shutdown()  # or it goes on telling the autoscaler
                serve.delete(self._settings.name)
        if self._local is not None:
            self._local.stop()
        elif self._handle is not None:
            leave()

    async def replicas(self) -> list[str]:
        """As `Fleet.replicas`. Raises `ServiceError` where replicas cannot even be made."""
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            named = self._handle.broadcast("name")
            names = await named.results_async(timeout_s=_ANSWER_S, return_exceptions=True)
        except (RayError, RayServeException, TimeoutError):
            await asyncio.to_thread(self._raise_why)
            return []
        return [name for name in names if isinstance(name, str)]

    def _raise_why(self) -> None:
        """Raises `ServiceError` where Ray Serve has given up starting replicas."""
        _, serve = import_ray()
        application = serve.status().applications.get(self._settings.name)
        if application is not None and application.status == "DEPLOY_FAILED":
            told = [one.message for one in application.deployments.values() if one.message]
            raise ServiceError("; ".join(told) or application.message, "See Ray's logs")

    async def report(self, replica: str, seen: int, patience_s: float) -> Report:
        """As `Fleet.report`."""
        from ray.exceptions import ActorDiedError, RayError
        from ray.serve.exceptions import RayServeException

        for left in reversed(range(_TRIES)):
            try:
                report = await self._handle.report.remote(seen, patience_s, replica=replica)
            except ActorDiedError:
                raise ReplicaLostError(f"replica {replica} died") from None
            except (RayError, RayServeException) as error:
                if not left:
                    raise ReplicaLostError(f"replica {replica} cannot be reached: {error}") from None
                await asyncio.sleep(patience_s)
                continue
            if report is not None:
                assert isinstance(report, Report)
                return report
            break
        raise self._gone(replica)

    async def make(self, replica: str, order: Order) -> AsyncGenerator[Said, None]:
        """As `Fleet.make`."""
        from ray.exceptions import ActorDiedError, RayError
        from ray.serve.exceptions import RayServeException

        response = self._handle.options(stream=True).make.remote(order, replica=replica)
        try:
            async for said in response:
                if said is None:
                    raise self._gone(replica)
                yield said
        except ActorDiedError:
            raise ReplicaLostError(f"replica {replica} died") from None
        except (RayError, RayServeException) as error:
            yield Said(Failed(order.ticket, ServiceError(f"replica {replica} cannot be reached: {error}")))
        finally:
            response.cancel()

    def _gone(self, replica: str) -> ReplicaLostError:
        """A replica that Ray Serve gives no more calls to: replaced, or, where their number changes, one too many."""
        kind = ReplicaLostError if self._settings.autoscale is None else ReplicaRetiredError
        return kind(f"replica {replica} is there no more")


def service_on_ray(engine: ServiceSettings, cluster: ClusterSettings) -> ClusterService:
    """A supervised engine on every replica. Raises `ServiceError` where Ray is not installed, or a GPU is named."""
    check_installed()
    gpu = engine.device.startswith("cuda")
    if engine.device.startswith("cuda:"):
        problem = f"every replica has a GPU to itself, and the device is {engine.device}"
        raise ServiceError(problem, "Give --device cuda")
    fleet = RayFleet(functools.partial(Supervisor, engine), cluster, gpu)
    return ClusterService(fleet, engine.queue, engine.max_wait_s)

"""What Prometheus reads: counted as it happens, or asked of the service when it is read."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headrace.service import RoundSeen, Service, Timing

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_SHORT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


class Metrics:
    """One app's, with a registry of its own. May be told things from any thread.

    A number that grows is a counter: rows a second are `rate(headrace_rows_total[1m])`.
    """

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_ServiceCollector(service))
        ProcessCollector(namespace="headrace_http", registry=self.registry)
        self._of_http()
        self._of_pictures()
        self._of_rounds()

    def _of_http(self) -> None:
        registry = self.registry
        self.requests = Counter(
            "headrace_http_requests", "HTTP requests answered", ("route", "method", "status"), registry=registry
        )
        self.http_seconds = Histogram(
            "headrace_http_seconds", "from the request's first byte to the answer's last", ("route",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.open = Gauge("headrace_http_open_requests", "HTTP requests being answered", registry=registry)
        self.refusals = Counter(
            "headrace_refusals", "requests refused, by the error's code", ("reason",), registry=registry
        )
        self.disconnects = Counter(
            "headrace_disconnects", "requests for pictures whose caller left before the end", registry=registry
        )

    def _of_pictures(self) -> None:
        def seconds(name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"headrace_{name}_seconds", text, buckets=buckets, registry=self.registry)

        self.queue_wait = seconds("queue_wait", "of a picture: submitted until it got a slot")
        self.denoise = seconds("denoise", "of a picture: slot until its last row")
        self.decode = seconds("decode", "of a picture: last row until its pixels were there", _SHORT_SECONDS)
        self.encode = seconds("encode", "of a picture: compression", _SHORT_SECONDS)
        self.picture = seconds("picture", "of a picture: submitted until its pixels were there")
        self.first_preview = seconds("first_preview", "of a picture: its request until its first preview")

    def _of_rounds(self) -> None:
        registry = self.registry
        self.batch_rows = Histogram(
            "headrace_batch_rows", "plan rows in a round, by why no more ran in it", ("reason",),
            buckets=_ROWS, registry=registry,
        )  # fmt: skip
        self.round = Histogram("headrace_round_seconds", "of a round", buckets=_SHORT_SECONDS, registry=registry)
        self.unet_seconds = Counter("headrace_unet_seconds", "in which rounds ran rows", registry=registry)
        self.decode_seconds = Counter("headrace_vae_seconds", "in which rounds ran decoder chunks", registry=registry)
        self.rows = Counter("headrace_rows", "plan rows evaluated", registry=registry)
        self.network_rows = Counter("headrace_network_rows", "rows of the network: both branches", registry=registry)
        self.calls = Counter("headrace_network_calls", "calls of the network", registry=registry)
        self.chunks = Counter("headrace_chunks", "decoder chunks run", registry=registry)
        self.skipped = Counter(
            "headrace_skipped_rows", "guided rows whose unconditional branch was left out", registry=registry
        )
        self.controller = Gauge(
            "headrace_controller", "settings and state of the feedback controller: skips, chunks", ("name",),
            registry=registry,
        )  # fmt: skip

    def saw_round(self, seen: RoundSeen) -> None:
        """Counts one round."""
        self.batch_rows.labels(seen.reason or "unknown").observe(len(seen.rows))
        self.round.observe(seen.seconds)
        self.unet_seconds.inc(max(0.0, seen.unet_s))
        self.decode_seconds.inc(max(0.0, seen.decode_s))
        self.rows.inc(len(seen.rows))
        self.network_rows.inc(seen.network_rows)
        self.calls.inc(seen.calls)
        self.chunks.inc(len(seen.chunks))
        self.skipped.inc(sum(row.skipped for row in seen.rows))
        for name, value in seen.controller.items():
            self.controller.labels(name).set(value)

    def saw_finished(self, timing: Timing) -> None:
        """Counts one wish that is done."""
        started, denoised = timing.started, timing.denoised
        if started is not None:
            self.queue_wait.observe(started - timing.submitted)
            if denoised is not None:
                self.denoise.observe(denoised - started)
        if denoised is not None:
            self.decode.observe(timing.finished - denoised)
        self.picture.observe(timing.finished - timing.submitted)


class _ServiceCollector(Collector):
    """The service's own numbers, asked for when they are read."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterator[Metric]:
        """Nothing: to be registered is no reason to ask the service."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Gauges and counters of `Status`."""
        status = self._service.status()
        load = status.load
        gauges: list[tuple[str, str, float]] = [
            ("ready", "1 where requests are taken", float(status.state == "ready")),
            ("queue_length", "wishes without a slot", load.waiting),
            ("denoising", "wishes in a slot with rows left", load.denoising),
            ("decoding", "wishes in a slot with only chunks left", load.decoding),
            ("rows_left", "plan rows still to be evaluated", load.rows),
            ("clear_seconds", "until all of it should be done", load.clear_s),
            ("max_rows", "network rows in one call; running out of memory halves it", status.max_rows),
            ("engine_memory_bytes", "of the engine's process", status.memory_bytes),
            ("replicas", "engines that serve", status.replicas),
        ]
        counters: list[tuple[str, str, int]] = [
            ("accepted", "wishes accepted", status.accepted),
            ("finished", "wishes done", status.finished),
            ("failed", "wishes failed alone", status.failed),
            ("cancelled", "wishes dropped by their callers", status.cancelled),
            ("restarts", "times that the engine's process was replaced", status.restarts),
            ("poisoned", "wishes failed alone as they crashed the engine", status.poisoned),
        ]
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"headrace_{name}", text, value)
        for name, text, count in counters:
            yield CounterMetricFamily(f"headrace_{name}", text, count)

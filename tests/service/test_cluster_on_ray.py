"""Replicas on a real Ray on this machine, with a real model. Each test starts a Ray: half a minute on idle cores."""

import functools
import importlib.util
import os
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fake_replicas import Ear, until

from headrace.request import Request
from headrace.service import Finished, Wish
from headrace.service.cluster import ClusterService, ClusterSettings
from headrace.service.cluster.ray_fleet import RayFleet
from headrace.service.settings import ServiceSettings
from headrace.service.supervisor import Supervisor

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("HEADRACE_RAY_TESTS") != "1",
        reason="starts Ray twice, which takes a minute or more; set HEADRACE_RAY_TESTS=1 to run it",
    ),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra cluster is not installed"),
]
PATIENCE_S = 400.0  # the cores may be busy


def rays():
    """Folders of Rays of this machine, Ray's own place among them: nothing may start one there."""
    return {*Path("/tmp").glob("headrace-ray-*"), *Path("/tmp/ray").glob("session_2*")}


@contextmanager
def ray_cluster(**settings):
    before = rays()
    engine = ServiceSettings(model="cifar10-ddpm-small", measure_s=0.0, slots=4, start_s=PATIENCE_S)
    fleet = RayFleet(functools.partial(Supervisor, engine), ClusterSettings(cpus=1.0, **settings))
    service = ClusterService(fleet, engine.queue, max_wait_s=1e6)
    try:
        service.start(PATIENCE_S)
        yield service
    finally:
        service.stop()
    time.sleep(2)
    assert rays() == before


def submit(service, seed, steps=6, previews=1):
    ear = Ear()
    service.submit(Wish(Request(seed=seed, steps=steps), previews=previews), ear)
    return ear


def of_ray(name):
    import psutil

    return [one for one in psutil.Process().children(recursive=True) if name in one.name()]


def refuses_strangers(port):
    """Whether a call without the token is turned away."""
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"", timeout=20)
    return raised.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_replica_is_killed_under_load_and_every_picture_is_made():
    with ray_cluster(replicas=2) as service:
        until(lambda: service.status().replicas == 2, PATIENCE_S)
        before = submit(service, 1)
        assert isinstance(before.wait(PATIENCE_S), Finished)
        ears = [submit(service, seed) for seed in range(24)]
        until(lambda: sum("Preview" in ear.kinds for ear in ears) >= 4, PATIENCE_S)
        killed = of_ray("ray::ServeRepli")[0]
        engines = killed.children()
        assert engines
        killed.kill()
        for ear in ears:
            assert isinstance(ear.wait(PATIENCE_S), Finished)
        assert {tuple(ear.kinds) for ear in ears} == {("Accepted", "Preview", "Finished")}
        attempts = [ear.heard[-1].timing.attempts for ear in ears]
        assert set(attempts) == {1, 2}
        again = [submit(service, seed) for seed, tries in enumerate(attempts) if tries == 2][:4]
        seeds = [seed for seed, tries in enumerate(attempts) if tries == 2][:4]
        for seed, ear in zip(seeds, again, strict=True):
            (undisturbed,), (picture,) = ear.wait(PATIENCE_S).pictures, ears[seed].heard[-1].pictures
            assert np.abs(undisturbed.astype(int) - picture.astype(int)).max() <= 1
        status = service.status()
        assert (status.failed, status.poisoned, status.restarts) == (0, 0, 1)
        assert not any(engine.is_running() for engine in engines)  # it did not outlive its replica
        until(lambda: service.status().replicas == 2, PATIENCE_S)  # Ray Serve has replaced it

        listening = [
            (process.name(), connection.laddr)
            for process in of_ray("")
            for connection in process.net_connections("inet")
            if connection.status == "LISTEN"
        ]
        assert listening
        open_to_all = [(name, at) for name, at in listening if not at.ip.endswith("127.0.0.1")]
        assert {name[:15] for name, _ in open_to_all} <= {"ray::ServeRepli"}
        assert all(refuses_strangers(at.port) for _, at in open_to_all)
        processes = of_ray("")
    until(lambda: not any(one.is_running() and one.status() != "zombie" for one in processes), 60)


def test_a_queue_brings_a_replica_and_quiet_takes_it_away():
    os.environ["RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S"] = "1"  # ten seconds by itself
    try:
        quick = {"clear_target_s": 2.0, "upscale_delay_s": 0.0, "downscale_delay_s": 2.0}
        with ray_cluster(autoscale=(1, 2), **quick) as service:
            assert len(of_ray("ray::ServeRepli")) == 1
            ears = [submit(service, seed, steps=40, previews=0) for seed in range(24)]
            while len(of_ray("ray::ServeRepli")) < 2:
                assert not all(ear.over.is_set() for ear in ears), "the queue was done before a replica was added"
                time.sleep(0.2)
            for ear in ears:
                assert isinstance(ear.wait(PATIENCE_S), Finished)
            until(lambda: len(of_ray("ray::ServeRepli")) == 1, PATIENCE_S)
            until(lambda: service.status().replicas == 1, PATIENCE_S)
            assert isinstance(submit(service, 1).wait(PATIENCE_S), Finished)
            assert service.status().restarts == 0
    finally:
        del os.environ["RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S"]

"""A Ray of one's own: on this machine, on loopback, in a folder that goes with it."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import math
import os
import secrets
import shutil
import socket
import sys
import tempfile
from types import ModuleType
from typing import Any

from headrace.errors import ServiceError

_STORE_BYTES = 256 << 20  # of shared memory, for pictures on their way
# Read by Ray as it is imported and by its processes: to listen on loopback alone, which it does by itself where there
# are no clusters (Windows, macOS); and to leave engines the priority that this process has, instead of 15 less.
_VARIABLES = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}


_REACH_S = 10.0  # in which another machine answers
_INSTALL = "pip install 'headrace[cluster]'"


def check_installed(module: str = "ray") -> None:
    """Raises `ServiceError` with the command that installs Ray, without importing it."""
    if importlib.util.find_spec(module) is None:
        raise ServiceError("a cluster needs Ray Serve, which is not installed", _INSTALL)


def import_ray() -> tuple[ModuleType, ModuleType]:
    """`ray` and `ray.serve`. Raises `ServiceError` with the command that installs them."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Or whatever of it is called too late, after `leave`, starts another Ray, one that is open to everyone.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    # Its own handler of SIGTERM would abort this process within three seconds, whatever is still being drained.
    os.environ["RAY_DISABLE_FAILURE_SIGNAL_HANDLER"] = "1"
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise ServiceError(f"a cluster needs Ray Serve: {error}", _INSTALL) from None
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # else a line for every call that a lost replica had
    return ray, serve


def join(address: str) -> None:
    """Connects to a Ray that others started: HOST:PORT, or auto. Raises `ServiceError`."""
    if address != "auto":
        _reach(address)  # Ray itself tries for minutes
    ray, _ = import_ray()
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="headrace")
    except Exception as error:  # Ray raises what it likes
        problem = str(error).partition("\n")[0]
        raise ServiceError(f"no Ray cluster answers at {address}: {problem}", "Give the address of its head") from error


def _reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    remedy = "Give HOST:PORT of its head, as `ray start --head` says it, or auto"
    if not (host and port.isdecimal()) or "://" in address:
        raise ServiceError(f"{address!r} is no address of a Ray cluster", remedy)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ServiceError(f"no Ray cluster answers at {address}: {error}", remedy) from None


def leave() -> None:
    """Ends the connection, and what this process started of Ray."""
    ray, _ = import_ray()
    ray.shutdown()


def _make_token() -> None:
    """Calls to Ray's processes need it. An operator's own, or the choice of none, stands."""
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


class LocalRay:
    """Starts Ray's processes, which end with this one.

    Nothing but this machine reaches them: they listen on 127.0.0.1, except for a port of each replica that Ray Serve
    2.60 opens on every interface. Calls to any of them need a token that is made here and handed to no one else. Its
    sockets, logs and spilled objects are in a new folder that `stop` removes. No dashboard, no usage statistics.
    """

    def __init__(self) -> None:
        self._folder: str | None = None

    def start(self, cpus: float) -> None:
        """`cpus`: that replicas may ask for together. Raises `ServiceError`."""
        if "ray" not in sys.modules:
            os.environ.update(_VARIABLES)
            _make_token()
        self._folder = tempfile.mkdtemp(prefix="headrace-ray-")
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)  # before Ray's own, so that it comes after it
        ray, _ = import_ray()
        options: dict[str, Any] = {
            "num_cpus": math.ceil(max(cpus, os.cpu_count() or 1)),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "object_spilling_directory": os.path.join(self._folder, "spill"),
            "log_to_driver": False,
            "logging_level": "ERROR",
            "namespace": "headrace",
            "_temp_dir": self._folder,
        }
        try:
            ray.init(address="local", **options)
        except Exception as error:  # Ray raises what it likes
            problem = str(error).partition("\n")[0]
            raise ServiceError(f"Ray did not start: {problem}", "Is there room for temporary files?") from error

    def stop(self) -> None:
        """Ends Ray's processes."""
        leave()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

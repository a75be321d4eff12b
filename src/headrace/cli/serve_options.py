"""Options of `headrace serve`, read and checked before anything is started."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from headrace.api.batches.database import check_free
from headrace.api.logs import LogFormat
from headrace.api.schemas import Quality
from headrace.api.server import is_loopback
from headrace.api.settings import PLAIN
from headrace.artefact import kind_of
from headrace.errors import HeadraceWarning, RequestError, ServiceError
from headrace.service.cluster import ClusterSettings, read_autoscale

KEY_VARIABLE = "HEADRACE_API_KEY"
_SHORTEST_KEY = 16  # characters
_OWN_NAMES = ("localhost", "127.0.0.1", "[::1]")


def api_keys(file: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The file's keys, one a line (blank lines and those with # in front are passed over), and the variable's.

    Never an option: every user of a machine can read the command lines of its processes. Raises `ServiceError`.
    """
    found = [key for key in (environment.get(KEY_VARIABLE, "").strip(),) if key]
    if file is not None:
        found += _keys_of(file)
    remedy = "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
    for key in found:
        if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise ServiceError(f"an API key is not {_SHORTEST_KEY} or more ASCII characters without spaces", remedy)
    return tuple(dict.fromkeys(found))


def _keys_of(file: Path) -> list[str]:
    try:
        lines = file.expanduser().read_text(encoding="utf-8").splitlines()
        readable = file.expanduser().stat().st_mode & 0o077
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServiceError(f"the keys in {str(file)!r} cannot be read: {reason}", "Give a file of keys") from None
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise ServiceError(f"{str(file)!r} holds no key", "Write one a line")
    if readable:
        warnings.warn(f"others may read the keys in {str(file)!r}. chmod 600 {file}", HeadraceWarning, stacklevel=2)
    return found


def hosts(host: str, allowed: Sequence[str], keyed: bool, without_key: bool) -> tuple[str, ...]:
    """Names that the header Host may hold; empty for any.

    On this machine alone and without a key, a page elsewhere could have its own name point here: then only names of
    this machine are answered to. Raises `ServiceError` where others reach the address, and nothing keeps them out.
    """
    local = is_loopback(host)
    if not local and not keyed and not without_key:
        raise ServiceError(
            f"everyone who reaches {host} could use the server",
            f"Set {KEY_VARIABLE}, give --api-key-file, or say --without-key if a proxy in front asks for one",
        )
    if allowed:
        return tuple(dict.fromkeys(name.lower() for name in (*allowed, *_OWN_NAMES)))
    return tuple(dict.fromkeys((*_OWN_NAMES, host.lower()))) if local and not keyed else ()


def accelerations(given: Sequence[str], default: str | None) -> dict[str, str]:
    """name -> file of NAME=FILE. Raises `RequestError`, and `ArtefactError` for a file that is no artefact."""
    named: dict[str, str] = {}
    for one in given:
        name, equals, file = one.partition("=")
        if not (name.strip() and equals and file):
            raise RequestError("acceleration", f"--acceleration {one!r} is not NAME=FILE", "Write fast=tuned.json")
        if name in named or name == PLAIN:
            raise RequestError("acceleration", f"--acceleration {one!r}: the name {name!r} is taken", "Choose another")
        kind_of(file)
        named[name] = file
    if default is not None and default not in named:
        known = ", ".join(named) or "none is given"
        raise RequestError(
            "default_acceleration", f"--default-acceleration {default!r} is none of --acceleration", f"Known: {known}"
        )
    return named


def tiers(given: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """tier -> acceleration of TIER=NAME. Raises `RequestError`."""
    found: dict[str, str] = {}
    for one in given:
        tier, _, name = one.partition("=")
        if tier not in get_args(Quality):
            known = ", ".join(get_args(Quality))
            raise RequestError("quality", f"--quality {one!r}: {tier!r} is no tier", f"Tiers: {known}")
        if name != PLAIN and name not in named:
            known = ", ".join([*named, PLAIN])
            raise RequestError("quality", f"--quality {one!r}: there is no acceleration {name!r}", f"Known: {known}")
        found[tier] = name
    return found


def data_folder(given: Path | None, model: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where batches are kept: what was given, or a folder of the model among the user's state files.

    None, with a warning, where that one cannot be used: another server of the same model may have it.
    """
    if given is not None:
        return given.expanduser()
    state = Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    folder = state / "headrace" / (Path(model).name or "model")
    try:
        check_free(folder)
    except ServiceError as error:
        warnings.warn(f"batches are not offered: {error.problem}. Give --data FOLDER", HeadraceWarning, stacklevel=2)
        return None
    return folder


def log_format_of(text: str) -> LogFormat:
    """Raises `RequestError` for another one than json and text."""
    if text == "json":
        return "json"
    if text == "text":
        return "text"
    raise RequestError("log_format", f"--log-format {text!r} is not accepted", "Use json or text")


def cluster_of(
    wanted: bool, replicas: int | None, autoscale: str | None, ray_address: str | None, drain_s: float
) -> ClusterSettings | None:
    """Several engines, where they are wanted. Raises `RequestError` for an option that asks for what is not there."""
    given = {"replicas": replicas, "autoscale": autoscale, "ray_address": ray_address}
    for field, value in given.items():
        if value is not None and not wanted:
            raise RequestError(
                field, f"--{field.replace('_', '-')} {value} and one engine", "Give --cluster too, or leave it out"
            )
    if not wanted:
        return None
    bounds = read_autoscale(autoscale) if autoscale is not None else None
    return ClusterSettings(replicas=replicas, autoscale=bounds, address=ray_address, drain_s=max(1.0, drain_s))

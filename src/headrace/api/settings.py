"""What an operator decides about the HTTP side. Whoever needs more of it than its defaults builds one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.api.batches.limits import BatchLimits
from headrace.errors import ServiceError

PLAIN = "none"  # the acceleration that is none


@dataclass(frozen=True)
class ApiSettings:
    """Limits, keys and names.

    Attributes:
        api_keys: one of which a request must carry as `Authorization: Bearer KEY`; empty: none is asked for.
        quality: tier of OpenAI's API ("low", "medium", "high", "xhigh", "max", "auto") -> name of an acceleration, or
            "none" for plain sampling. A tier that is not named is plain sampling, "auto" the service's default.
        aliases: names that a request may call the model by besides its own.
        max_body_bytes: of a request.
        max_upload_bytes: of a file of requests.
        body_timeout_s: seconds in which a request's body must have come.
        max_pictures: n of one request.
        max_steps: of one picture.
        max_open_requests: HTTP requests at once; more are refused with 429.
        allowed_hosts: names that the header Host may hold, without the port; empty: any.
        cors_origins: origins whose pages may call; empty: none but its own.
        public_url: what addresses of pictures begin with; None: as the request called the server.
        stored_pictures, stored_bytes, stored_s: how many pictures are kept for `response_format="url"`, how many bytes
            of them, and for how many seconds.
        encoders: threads that compress pictures.
        keep_alive_s: seconds of silence in a stream after which a comment is sent.
        open_metrics: whether /metrics is answered without a key.
        log_prompts: whether prompts are logged.
        user_salt: what users' names are hashed with in logs.
        data_folder: where files and batches are kept; None: batches are not offered.
        batches: how much of the machine they may have.

    Raises `ServiceError` for a limit that lets nothing through.
    """

    api_keys: tuple[str, ...] = ()
    quality: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    max_body_bytes: int = 1 << 18  # two prompts of the greatest length, every character escaped
    max_upload_bytes: int = 64 << 20
    body_timeout_s: float = 30.0
    max_pictures: int = 10
    max_steps: int = 250
    max_open_requests: int = 2048
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    public_url: str | None = None
    stored_pictures: int = 1000
    stored_bytes: int = 256 << 20
    stored_s: float = 3600.0
    encoders: int = 2
    keep_alive_s: float = 15.0
    open_metrics: bool = False
    log_prompts: bool = False
    user_salt: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)
    data_folder: Path | None = None
    batches: BatchLimits = field(default_factory=BatchLimits)

    def __post_init__(self) -> None:
        limits = (
            "max_body_bytes", "max_upload_bytes", "body_timeout_s", "max_pictures", "max_steps", "max_open_requests",
            "stored_pictures", "stored_bytes", "stored_s", "encoders", "keep_alive_s",
        )  # fmt: skip
        for name in limits:
            if getattr(self, name) <= 0:
                raise ServiceError(f"{name} is {getattr(self, name)}", "Give a number above 0")
        if any(not key.strip() or not key.isascii() for key in self.api_keys):
            raise ServiceError("an API key is empty or not ASCII", "Use letters, digits and punctuation")

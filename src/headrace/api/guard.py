"""Who may come in, with how large a body: keys, hosts, origins, sizes. Before anything is parsed."""

from __future__ import annotations

import asyncio
import hmac
from hashlib import sha256

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.api.edge import answer
from headrace.api.errors import ApiError
from headrace.api.note import header
from headrace.api.settings import ApiSettings

# A load balancer has no key; pictures are kept under names that nobody can guess.
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_KEYED_PREFIXES = ("/v1/", "/openapi.json", "/metrics")
_UNGUESSABLE = "/v1/pictures/"
# Where files of requests are sent to.
_UPLOADS = ("/v1/files", "/v1/batches/lines")


class Guard:
    """Lets pass what `ApiSettings` allows; what it does not is answered at once.

    With keys, all of /v1 and /metrics asks for one; the page's own files hold nothing that needs it.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._settings = settings
        self._keys = [sha256(key.encode()).digest() for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or has it answered further inside."""
        if scope["type"] == "http":
            error = self._host_error(scope) or self._origin_error(scope) or self._key_error(scope)
            error = error or self._length_error(scope)
            if error is not None:
                await answer(error, scope, receive, send)
                return
            receive = _Body(receive, self._most(scope), self._settings.body_timeout_s)
        await self._app(scope, receive, send)

    def _host_error(self, scope: Scope) -> ApiError | None:
        """A page elsewhere whose name was pointed at this machine would call it by that name."""
        allowed = self._settings.allowed_hosts
        if not allowed or scope["path"] in _OPEN_PATHS:
            return None
        host = _without_port(header(scope, b"host"))
        if host in allowed:
            return None
        return ApiError(403, f"this server is not {host[:60]!r}. It answers to {', '.join(allowed)}", "unknown_host")

    def _origin_error(self, scope: Scope) -> ApiError | None:
        """A browser tells whose page calls. Other programs send no origin."""
        origin = header(scope, b"origin")
        if not origin or scope["method"] in ("GET", "HEAD", "OPTIONS") or origin in self._settings.cors_origins:
            return None
        if origin.partition("://")[2] == header(scope, b"host"):
            return None
        return ApiError(403, f"pages of {origin[:60]!r} may not call this server", "unknown_origin")

    def _key_error(self, scope: Scope) -> ApiError | None:
        path: str = scope["path"]
        if not self._keys or scope["method"] == "OPTIONS" or not path.startswith(_KEYED_PREFIXES):
            return None
        if path.startswith(_UNGUESSABLE) or (path == "/metrics" and self._settings.open_metrics):
            return None
        scheme, _, key = header(scope, b"authorization").partition(" ")
        given = sha256(key.strip().encode("latin-1", "replace")).digest()
        # Every key is compared, each in constant time.
        known = [hmac.compare_digest(given, one) for one in self._keys]
        if scheme.lower() == "bearer" and any(known):
            return None
        message = "a key is missing or wrong. Send the header Authorization: Bearer KEY"
        return ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    def _length_error(self, scope: Scope) -> ApiError | None:
        length = header(scope, b"content-length")
        if length and not (length.isascii() and length.isdigit()):
            return ApiError(400, "Content-Length is no number", "bad_request")
        return too_large(self._most(scope)) if length and int(length[:20]) > self._most(scope) else None

    def _most(self, scope: Scope) -> int:
        path = scope["path"].rstrip("/")
        return self._settings.max_upload_bytes if path in _UPLOADS else self._settings.max_body_bytes


class _Body:
    """`receive` of a request whose body may have only so many bytes and take only so many seconds."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive = receive
        self._left = most
        self._most = most
        self._until = asyncio.get_running_loop().time() + seconds
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, "the body did not come in time. Send it faster", "body_timeout") from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise too_large(self._most)
        self._whole = not message.get("more_body", False)
        return message


def too_large(most: int) -> ApiError:
    """The answer to a body of more bytes than that."""
    return ApiError(413, f"the body is larger than {most} bytes, which is what this server takes", "body_too_large")


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() and not name.endswith(":") else host).lower()

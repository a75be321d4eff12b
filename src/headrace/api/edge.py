"""The outermost layer: request ids, security headers, one line of log, metrics, and what nobody expected."""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.api.context import ApiContext
from headrace.api.errors import ApiError
from headrace.api.note import Note, begin_note

# The page is made of this server's own files alone, and shows pictures that scripts were given as data.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# Asked for often and of no interest in a log, unless something is wrong.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
# What the page asks for by itself while one types, and its files: a refusal of those is nobody's.
_PAGE_PREFIXES = ("/static/", "/v1/engine/costs")


class Edge:
    """Wraps everything else of an app."""

    def __init__(self, app: ASGIApp, context: ApiContext) -> None:
        self._app = app
        self._context = context
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. Nothing escapes but cancellation."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        note = begin_note(scope)
        metrics = self._context.metrics
        self._open += 1
        metrics.open.set(self._open)
        try:
            await self._answer(scope, receive, self._noting(note, send), note)
        finally:
            self._open -= 1
            metrics.open.set(self._open)
            self._record(scope, note)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, note: Note) -> None:
        try:
            if self._open > self._context.settings.max_open_requests and scope["path"] not in _QUIET:
                message = f"{self._open - 1} requests are open. Try again soon, or open fewer connections"
                await answer(ApiError(429, message, "too_many_requests", retry_after_s=1), scope, receive, send)
                return
            await self._app(scope, receive, send)
        except Exception:
            self._context.log.error("unexpected", exc_info=True, request_id=note.request_id)
            if note.status == 0:
                message = f"something went wrong here that should not have. Its log calls it {note.request_id}"
                await answer(ApiError(500, message, "internal_error"), scope, receive, send)
            # Otherwise the answer is cut off where it stands, which its caller sees.

    def _noting(self, note: Note, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                note.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = note.request_id
                headers["openai-processing-ms"] = str(round(note.elapsed_ms))
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        return noting

    def _record(self, scope: Scope, note: Note) -> None:
        metrics = self._context.metrics
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
        metrics.requests.labels(route, method, str(note.status)).inc()
        metrics.http_seconds.labels(route).observe(note.elapsed_ms / 1000)
        quiet = scope["path"] in _QUIET or scope["path"].startswith(_PAGE_PREFIXES)
        if note.code is not None and not quiet:
            metrics.refusals.labels(note.code).inc()
        if quiet and note.status < 500:
            return
        log = self._context.log
        # 503 and 501 are what should be said then.
        say = log.error if note.status == 500 else log.warning if note.status > 500 else log.info
        say(
            "request", request_id=note.request_id, method=method, path=quote(scope["path"][:200]), status=note.status,
            ms=round(note.elapsed_ms, 2), **({"code": note.code} if note.code else {}), **note.fields,
        )  # fmt: skip


async def answer(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with an error from outside of the routes."""
    await error.respond(scope)(scope, receive, send)

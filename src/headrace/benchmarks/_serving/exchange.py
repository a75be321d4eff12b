"""One request sent over HTTP and its answer read, streamed or not, as OpenAI's images API has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from headrace.benchmarks._serving.ask import Ask
from headrace.benchmarks._serving.outcome import DONE, LOST, UNREACHABLE, Outcome, kind_of

PATH = "/v1/images/generations"
_PREVIEW, _COMPLETED = "partial_image", "completed"
_MESSAGE_CHARACTERS = 200


async def exchange(
    client: httpx.AsyncClient, ask: Ask, now: Callable[[], float], give_up_s: float, keep: bool = False
) -> Outcome:
    """Sends `ask` at once and waits at most `give_up_s` seconds for its end. Whatever goes wrong is in the outcome.

    `now` gives seconds from the load's beginning; `keep` keeps the pictures.
    """
    found = Outcome(ask.at, ask.pictures, ask.patience_s, sent=now())
    reading = _Reading(found, now, keep)
    try:
        async with asyncio.timeout(give_up_s), client.stream("POST", PATH, json=ask.body) as response:
            found.status, found.accepted = response.status_code, now()
            if not response.is_success:
                reading.error(_parsed(await response.aread()))
            elif response.headers.get("content-type", "").startswith("text/event-stream"):
                async for line in response.aiter_lines():
                    reading.line(line)
            else:
                reading.whole(_parsed(await response.aread()))
            reading.end()
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        found.kind, found.message = UNREACHABLE, _worded(error)
    except (httpx.HTTPError, TimeoutError) as error:
        found.message = f"no answer in {give_up_s:g} s" if isinstance(error, TimeoutError) else _worded(error)
    return found


class _Reading:
    """An answer as it comes in."""

    def __init__(self, found: Outcome, now: Callable[[], float], keep: bool) -> None:
        self._found = found
        self._now = now
        self._keep = keep
        self._pictures = 0

    def line(self, line: str) -> None:
        """One line of an event stream; the type of an event stands in its data, so that `data:` lines are enough."""
        if not line.startswith("data:"):
            return
        data = _parsed(line.removeprefix("data:").strip())
        named = str(data.get("type", ""))
        if "error" in data or named == "error":
            self.error(data)
        elif named.endswith(_PREVIEW):
            self._found.previews += 1
            if self._found.first_preview is None:
                self._found.first_preview = self._now()
        elif named.endswith(_COMPLETED):
            self._picture(data)

    def whole(self, answer: dict[str, Any]) -> None:
        """A whole answer's pictures."""
        pictures = answer.get("data")
        for picture in pictures if isinstance(pictures, list) else []:
            if isinstance(picture, dict) and (picture.get("b64_json") or picture.get("url")):
                self._picture(picture)

    def error(self, answer: dict[str, Any]) -> None:
        """What the server says went wrong."""
        error = answer.get("error")
        about = error if isinstance(error, dict) else answer
        found = self._found
        found.code = str(about.get("code") or about.get("type") or "")
        found.kind = kind_of(found.status or 0, found.code)
        found.message = str(about.get("message") or answer.get("detail") or "")[:_MESSAGE_CHARACTERS]

    def end(self) -> None:
        """The answer is over."""
        if self._found.kind == LOST:
            self._found.message = f"the answer ended after {self._pictures} of {self._found.asked} pictures"

    def _picture(self, picture: dict[str, Any]) -> None:
        found = self._found
        self._pictures += 1
        if self._keep:
            found.pictures.append(str(picture.get("b64_json") or picture.get("url")))
        if self._pictures > found.asked:
            found.extra += 1
        elif self._pictures == found.asked and found.kind == LOST:
            found.kind, found.done = DONE, self._now()


def _parsed(text: str | bytes) -> dict[str, Any]:
    """A JSON object; an empty one for whatever is none, such as the page of a proxy or the end of a stream."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _worded(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_MESSAGE_CHARACTERS]

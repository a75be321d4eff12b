"""From events to answers: what a picture was made with, what it cost, its file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from headrace.api.context import ApiContext
from headrace.api.encoder import Encoded
from headrace.api.generation import Generation
from headrace.api.note import Note
from headrace.service import Finished, ModelCard, Preview, Wish
from headrace.software import software


@dataclass(frozen=True)
class Done:
    """One picture's file and how it was made; `number` counts the request's pictures from 0.

    `rows` of the plan were evaluated for it; 0 where those of another one made it, too.
    """

    number: int
    encoded: Encoded
    settings: dict[str, Any]
    rows: int


class Answering:
    """What one request's pictures become."""

    def __init__(self, context: ApiContext, card: ModelCard, asked: Generation, note: Note | None = None) -> None:
        self._context = context
        self._card = card
        self._note = note
        self.asked = asked

    async def finished(self, index: int, event: Finished, rows: int) -> list[Done]:
        """The pictures of wish number `index`, of which `rows` rows were planned, as files."""
        self._context.metrics.saw_finished(event.timing)
        first = self.number(index)
        wanted = event.pictures[: self.asked.pictures - first]
        return [await self._done(first + place, place, index, event, rows) for place in range(len(wanted))]

    def number(self, index: int) -> int:
        """Of the first picture of wish number `index`, among all of the request."""
        return index * self._card.pictures

    async def preview(self, event: Preview, index: int) -> Encoded:
        """The file of a preview of wish number `index`, which carries no settings but what it is."""
        settings = {"preview": True, **self._identity(self.asked.wishes[index])}
        encoded = await self._context.encoder.encode(event.pixels, settings, self.asked.encoding)
        if event.index == 0 and self._note is not None:
            self._context.metrics.first_preview.observe(self._note.elapsed_ms / 1000)
        return encoded

    async def _done(self, number: int, place: int, index: int, event: Finished, rows: int) -> Done:
        written = {**self._identity(self.asked.wishes[index]), **event.settings}
        if self._card.pictures > 1:
            written["picture"] = place
        encoded = await self._context.encoder.encode(event.pictures[place], written, self.asked.encoding)
        self._context.metrics.encode.observe(encoded.seconds)
        told = {
            **_plain(event.settings), **_told(written), "picture": number, "rows": rows,
            "attempts": event.timing.attempts, "times_ms": _times(event, encoded),
        }  # fmt: skip
        own = rows if place == 0 else 0  # several pictures of one wish share its rows
        if self._note is not None:
            self._note.fields["rows"] = self._note.fields.get("rows", 0) + own
            self._note.fields["times_ms"] = told["times_ms"]
        return Done(number, encoded, told, own)

    def _identity(self, wish: Wish) -> dict[str, Any]:
        """What the picture depends on, as `headrace generate` writes it; what the model fills in comes on top."""
        request = wish.request
        return {
            "model": self._card.name, "weights": self._card.fingerprint, "dtype": self._card.dtype,
            "prompt": request.prompt, "negative_prompt": request.negative_prompt, "class_label": request.class_label,
            "solver": request.solver or self._card.default_solver, "steps": request.steps,
            "guidance_scale": request.guidance_scale, "height": self.asked.size[0], "width": self.asked.size[1],
            "seed": request.seed, "acceleration": self.asked.acceleration, "headrace": software(),
        }  # fmt: skip


def answer_body(data: list[dict[str, Any]], asked: Generation, rows: int) -> dict[str, Any]:
    """An answer with its pictures' entries, for which `rows` rows were evaluated, in the words of OpenAI's API."""
    return {
        "created": now(), "data": data, "background": "opaque", "output_format": asked.encoding.picture_format,
        "quality": None if asked.quality == "auto" else asked.quality, "size": asked.written_size,
        "usage": usage(rows),
    }  # fmt: skip


def usage(rows: int) -> dict[str, Any]:
    """In the words of OpenAI's API: rows of the plans are output tokens; prompts are not counted."""
    none = {"text_tokens": 0, "image_tokens": 0}
    return {
        "input_tokens": 0,
        "input_tokens_details": none,
        "output_tokens": rows,
        "output_tokens_details": {**none, "image_tokens": rows},
        "total_tokens": rows,
    }


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


def _told(written: dict[str, Any]) -> dict[str, Any]:
    """Of what stands in the file, what a caller does not know anyway."""
    return {
        name: written.get(name)
        for name in ("model", "seed", "steps", "solver", "guidance_scale", "height", "width", "acceleration")
    }


def _plain(settings: Any) -> dict[str, Any]:
    return {str(name): value for name, value in settings.items()}


def _times(event: Finished, encoded: Encoded) -> dict[str, float | None]:
    timing = event.timing
    return {
        "queued": _ms(timing.submitted, timing.started),
        "denoising": _ms(timing.started, timing.denoised),
        "decoding": _ms(timing.denoised, timing.finished),
        "encoding": round(1000 * encoded.seconds, 3),
        "total": round(1000 * (timing.finished - timing.submitted + encoded.seconds), 3),
    }


def _ms(begun: float | None, ended: float | None) -> float | None:
    return None if begun is None or ended is None else round(1000 * (ended - begun), 3)

"""What a caller asked for, as wishes that the service takes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.api.encoder import Encoding
from headrace.api.errors import ApiError
from headrace.api.schemas import ImageRequest
from headrace.api.settings import PLAIN, ApiSettings
from headrace.errors import RequestError
from headrace.request import Request
from headrace.service import AccelerationCard, ModelCard, Wish

# Retired names of tiers -> those of today.
_TIERS = {"standard": "medium", "hd": "high"}
_MOST_DRAWN_SEED = 2**32


@dataclass(frozen=True)
class Generation:
    """One caller's pictures, checked: `wishes` make at least `pictures` of them, in the order of their seeds.

    Attributes:
        acceleration: name of the one that is used; None for plain sampling.
        quality: tier, under today's name.
        size: (height, width), pixels.
    """

    wishes: tuple[Wish, ...]
    pictures: int
    encoding: Encoding
    as_url: bool
    acceleration: str | None
    quality: str
    size: tuple[int, int]

    @property
    def written_size(self) -> str:
        """As OpenAI's API writes it."""
        return f"{self.size[1]}x{self.size[0]}"


def generation(body: ImageRequest, card: ModelCard, settings: ApiSettings) -> Generation:
    """The wishes of a request. Raises `RequestError` with the field, and `ApiError` for another model's name."""
    check_model(body.model, card, settings)
    pictures = _limited("n", body.n or 1, settings.max_pictures)
    quality = _TIERS.get(body.quality or "auto", body.quality or "auto")
    wanted = _acceleration(body, quality, card, settings)
    used = card.default_acceleration if wanted is None else wanted
    fields = _fields(body, card, settings, next((one for one in card.accelerations if one.name == used), None))
    seed = secrets.randbelow(_MOST_DRAWN_SEED) if body.seed is None else body.seed
    requests = -(-pictures // card.pictures)
    # The last seed must be in range, too: this says so with the field.
    made = [Request.parse({**fields, "seed": seed + index}) for index in range(requests)]
    timeout_s = None if body.timeout_ms is None else body.timeout_ms / 1000
    previews = (body.partial_images or 0) if body.stream else 0
    wishes = tuple(Wish(request, body.priority or 0, timeout_s, previews, wanted) for request in made)
    height, width = card.default_size
    size = (made[0].height or height, made[0].width or width)
    as_url = body.response_format == "url"
    return Generation(wishes, pictures, _encoding(body), as_url, None if used == PLAIN else used, quality, size)


def check_model(name: str | None, card: ModelCard, settings: ApiSettings) -> None:
    """Raises `ApiError` where `name` is that of another model than the served one."""
    if name is not None and name != card.name and name not in settings.aliases:
        message = f"there is no model {name[:60]!r} here. This server has {card.name!r}"
        raise ApiError(404, message, "model_not_found", "model")


def _acceleration(body: ImageRequest, quality: str, card: ModelCard, settings: ApiSettings) -> str | None:
    """Name that the wish carries: the request's own, or what its tier stands for; None for the service's default."""
    known = [one.name for one in card.accelerations]
    if body.acceleration is not None:
        if body.acceleration != PLAIN and body.acceleration not in known:
            problem = f"acceleration {body.acceleration[:60]!r} is not attached"
            raise RequestError("acceleration", problem, f"Use one of {', '.join([*known, PLAIN])}")
        return body.acceleration
    # A tier may be mapped by its retired name, which a caller wrote.
    mapped = settings.quality.get(body.quality or "auto", settings.quality.get(quality))
    return mapped if mapped is not None or quality == "auto" else PLAIN


def _fields(
    body: ImageRequest, card: ModelCard, settings: ApiSettings, acceleration: AccelerationCard | None
) -> dict[str, Any]:
    """Of a `Request`, but for the seed: the caller's, then the acceleration's, then the model's own."""
    if body.background == "transparent":
        raise RequestError("background", "the models make opaque pictures", "Leave it out, or ask for opaque")
    height, width = _size(body.size, card)
    given = {
        "negative_prompt": body.negative_prompt or None, "steps": body.steps, "solver": body.solver,
        "guidance_scale": body.guidance_scale, "height": height, "width": width,
        **_conditioning(body, card),
    }  # fmt: skip
    open_fields: Mapping[str, Any] = {"steps": card.default_steps, **(acceleration.defaults if acceleration else {})}
    fields = {**open_fields, **{name: value for name, value in given.items() if value is not None}}
    _limited("steps", fields["steps"], settings.max_steps)
    return fields


def _conditioning(body: ImageRequest, card: ModelCard) -> dict[str, Any]:
    prompt = body.prompt if body.prompt and body.prompt.strip() else None
    if card.conditioning == "prompt":
        if prompt is None:
            raise RequestError("prompt", "the prompt is missing or empty", "Say what the picture should show")
        if body.class_label is not None:
            raise RequestError("class_label", f"{card.name} has no classes", "Leave it out")
        return {"prompt": prompt}
    if card.conditioning == "class":
        return {"class_label": _class_label(prompt, body.class_label, card)}
    for name, value in (("prompt", prompt), ("class_label", body.class_label)):
        if value is not None:
            raise RequestError(name, f"{card.name} makes pictures without conditioning", 'Leave it out, or give ""')
    return {}


def _class_label(prompt: str | None, label: int | None, card: ModelCard) -> int:
    """The class that is asked for by number, or by a prompt that is a number or a name."""
    remedy = f"Give class_label, or as the prompt a number from 0 to {card.classes - 1}"
    remedy += " or the name of a class" if card.class_names else ""
    named = None if prompt is None else _class_of(prompt.strip(), card)
    if prompt is not None and named is None:
        raise RequestError("prompt", f"{prompt.strip()[:60]!r} is no class of {card.name}", remedy)
    if label is not None and named is not None and label != named:
        raise RequestError("class_label", f"class_label {label} and the prompt {prompt!r} differ", "Give one of them")
    wanted = label if label is not None else named
    if wanted is None:
        raise RequestError("class_label", f"{card.name} needs a class", remedy)
    if wanted >= card.classes:
        raise RequestError("class_label", f"{card.name} has no class {wanted}", remedy)
    return wanted


def _class_of(text: str, card: ModelCard) -> int | None:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    names = [name.casefold() for name in card.class_names]
    return names.index(text.casefold()) if text.casefold() in names else None


def _size(size: str | None, card: ModelCard) -> tuple[int | None, int | None]:
    """(height, width) of "WIDTHxHEIGHT". Its form has been checked."""
    if size is None or size == "auto":
        return None, None
    width, height = (int(side) for side in size.lower().split("x"))
    if height * width > card.max_pixels or not height or not width:
        problem = f"size {size} is not 1 to {card.max_pixels} pixels"
        raise RequestError(
            "size", problem, f"{card.name} makes {card.default_size[1]}x{card.default_size[0]} by itself"
        )
    if height % card.size_multiple or width % card.size_multiple:
        raise RequestError("size", f"size {size} is not accepted", f"Use multiples of {card.size_multiple}")
    return height, width


def _encoding(body: ImageRequest) -> Encoding:
    picture_format = body.output_format or "png"
    if picture_format == "png" and body.output_compression not in (None, 100):
        problem = f"output_compression is {body.output_compression}, and PNG has no quality"
        raise RequestError("output_compression", problem, "Leave it out, or ask for jpeg or webp")
    if body.stream and body.response_format == "url":
        raise RequestError("response_format", "a stream carries pictures, not addresses", "Use b64_json")
    if body.partial_images and not body.stream:
        raise RequestError("partial_images", f"{body.partial_images} previews without a stream", "Set stream to true")
    return Encoding(picture_format, 100 if body.output_compression is None else body.output_compression)


def _limited(name: str, value: int, most: int) -> int:
    if value > most:
        raise RequestError(name, f"{name} is {value}", f"This server takes at most {most}")
    return value

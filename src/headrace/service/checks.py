"""What can be refused of a wish by the model's card, before the engine sees it."""

from __future__ import annotations

from headrace.errors import RequestError
from headrace.request import Request
from headrace.service.model_card import ModelCard
from headrace.service.settings import PLAIN
from headrace.service.wish import Wish


def check_wish(wish: Wish, card: ModelCard) -> None:
    """Raises `RequestError` with the field that this model cannot serve."""
    _check_conditioning(wish.request, card)
    _check_size(wish.request, card)
    _check_solver(wish.request, card)
    known = (PLAIN, *(one.name for one in card.accelerations))
    if wish.acceleration is not None and wish.acceleration not in known:
        raise RequestError(
            "acceleration", f"there is no acceleration {wish.acceleration!r}", f"Known ones: {', '.join(known)}"
        )


def _check_conditioning(request: Request, card: ModelCard) -> None:
    if card.conditioning == "prompt" and request.prompt is None:
        raise RequestError("prompt", f"{card.name} makes pictures of prompts and there is none", "Give a prompt")
    if card.conditioning != "prompt" and (request.prompt is not None or request.negative_prompt is not None):
        field = "prompt" if request.prompt is not None else "negative_prompt"
        takes = "a class_label" if card.conditioning == "class" else "no conditioning"
        raise RequestError(field, f"{card.name} takes {takes}, not a prompt", f"Leave the {field} out")
    if card.conditioning == "class":
        allowed = f"Give 0 to {card.classes - 1}"
        if request.class_label is None:
            raise RequestError(
                "class_label", f"{card.name} makes pictures of classes and no class_label is given", allowed
            )
        if request.class_label >= card.classes:
            raise RequestError(
                "class_label", f"class_label {request.class_label} is outside the {card.classes} classes", allowed
            )
    elif request.class_label is not None:
        raise RequestError("class_label", f"{card.name} is not class-conditional", "Leave class_label out")
    if not card.guided and card.default_guidance == 1.0 and (request.guidance_scale or 0.0) > 1.0:
        raise RequestError(
            "guidance_scale",
            f"guidance_scale is {request.guidance_scale} and {card.name} has no unconditional branch",
            "Leave guidance_scale out",
        )


def _check_size(request: Request, card: ModelCard) -> None:
    multiple = card.size_multiple
    for field, value in (("height", request.height), ("width", request.width)):
        if value is not None and value % multiple:
            lower = max(multiple, value // multiple * multiple)
            raise RequestError(
                field, f"{field} {value} is not a multiple of {multiple}", f"Use {lower} or {lower + multiple}"
            )
    height, width = request.height or card.default_size[0], request.width or card.default_size[1]
    if height * width > card.max_pixels:
        field = "height" if request.height is not None and height >= width else "width"
        raise RequestError(
            field, f"{width}x{height} are {height * width} pixels", f"Ask for at most {card.max_pixels} in all"
        )


def _check_solver(request: Request, card: ModelCard) -> None:
    if request.solver is not None and request.solver not in card.solvers:
        raise RequestError(
            "solver", f"{card.name} has no solver {request.solver!r}", f"Known ones: {', '.join(card.solvers)}"
        )

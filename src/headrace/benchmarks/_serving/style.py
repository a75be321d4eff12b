"""How requests for a server are written, by what it says of its models."""

from __future__ import annotations

from typing import Any

import httpx

from headrace.benchmarks._prompts import PROMPTS
from headrace.benchmarks._serving.ask import Style
from headrace.benchmarks._serving.generator import Target
from headrace.errors import HeadraceError


def style_for(target: Target, model: str | None = None) -> Style:
    """Of a server's `model`, which may be left out where it has one only.

    A server that tells at `/v1/models` what its model takes, as Headrace does, gets steps, seeds and what the model is
    conditioned on; others get OpenAI's fields alone. Raises `HeadraceError` where it does not answer or has another
    model.
    """
    entries = _models(target)
    if model is None and len(entries) == 1:
        [model] = entries
    if model is None or model not in entries:
        problem = "no model is named" if model is None else f"the server has no model {model!r}"
        raise HeadraceError(problem, f"It has {', '.join(sorted(entries)[:20]) or 'none'}: name one with --model")
    about = entries[model].get("headrace")
    if not isinstance(about, dict):
        return Style(model=model, extended=False, sized=False)
    return Style(model=model, subjects=_subjects(about), sized=False)


def _subjects(about: dict[str, Any]) -> tuple[str, ...]:
    if about.get("conditioning") == "class":
        return tuple(str(number) for number in range(int(about.get("classes") or 1)))
    return PROMPTS if about.get("conditioning") == "prompt" else ()


def _models(target: Target) -> dict[str, dict[str, Any]]:
    url = f"{target.url}/v1/models"
    try:
        response = httpx.get(url, headers=target.headers(), trust_env=not target.local, timeout=30.0)
        response.raise_for_status()
        return {str(entry["id"]): entry for entry in response.json()["data"]}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise HeadraceError(f"{url} cannot be read: {error}", "Give the address of a server of OpenAI's API") from None

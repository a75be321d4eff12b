"""How arrivals are written on the command line: rates, ranges of steps, lists of sizes."""

from __future__ import annotations

import re

from headrace.errors import TraceError
from headrace.serving.state import Size

DRAWN = re.compile(r"(poisson|burst)(?::(.+))?")


def rate_of(text: str, option: str, example: str) -> float:
    """A number above 0, with or without an x behind it."""
    try:
        value = float(text.removesuffix("x"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise TraceError(f"{text!r} in {option} is no arrival rate", f"Write, for example, {example}")
    return value


def steps_of(text: str) -> tuple[int, int]:
    """`20-50`, or one number for both ends."""
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    if match is None:
        raise TraceError(f"--steps {text!r} is no range", "Write, for example, --steps 20-50")
    return int(match[1]), int(match[2] or match[1])


def sizes_of(text: str) -> tuple[Size, ...]:
    """`512,768x512`: WIDTHxHEIGHT or one side, several with commas; as (height, width)."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:x(\d{1,5}))?\s*", part)
        if match is None:
            raise TraceError(
                f"{part!r} in --sizes is no size", "Write, for example, --sizes 512,768x512 (WIDTHxHEIGHT)"
            )
        found.append((int(match[2] or match[1]), int(match[1])))
    return tuple(found)

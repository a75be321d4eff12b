"""What a load asks of a server, and when: HTTP bodies of a trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.benchmarks._prompts import PROMPTS
from headrace.serving.trace import Trace

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Ask:
    """One request of a load.

    Attributes:
        at: when it is sent, seconds from the load's beginning, whatever became of the ones before it.
        body: JSON of `/v1/images/generations`.
        patience_s: seconds after `at` in which its pictures are of use; None where there is no hurry.
    """

    at: float
    body: Body
    patience_s: float | None = None

    @property
    def pictures(self) -> int:
        """How many it asks for."""
        return int(self.body.get("n") or 1)


@dataclass(frozen=True)
class Style:
    """How the requests of a trace are written.

    Attributes:
        model: name that the server knows; None to leave it out.
        subjects: prompts, in a circle; none for models that take none.
        extended: with steps, seed, guidance_scale, priority and timeout_ms, which OpenAI's own API does not have.
        sized: with the trace's sizes; otherwise the server's own.
        streamed: share of the requests that are streamed.
        previews: partial images that a streamed one asks for, 0 to 3.
        n: pictures of one request.
        guidance: scale of the requests that are guided; None for the server's own.
        solver: of all; None for the server's own.
    """

    model: str | None = None
    subjects: tuple[str, ...] = PROMPTS
    extended: bool = True
    sized: bool = True
    streamed: float = 0.0
    previews: int = 1
    n: int = 1
    guidance: float | None = None
    solver: str | None = None


def asks(trace: Trace, style: Style) -> list[Ask]:
    """The trace's requests as they are sent; request i has seed i."""
    return [_ask(trace, number, style) for number in range(len(trace))]


def _ask(trace: Trace, number: int, style: Style) -> Ask:
    body: dict[str, Any] = {"n": style.n}
    if style.subjects:
        body["prompt"] = style.subjects[number % len(style.subjects)]
    if style.model is not None:
        body["model"] = style.model
    if style.sized:
        body["size"] = f"{trace.width[number]}x{trace.height[number]}"
    if chosen(number, style.streamed):
        body |= {"stream": True, "partial_images": style.previews}
    hurried = math.isfinite(trace.deadline[number])
    patience = float(trace.deadline[number] - trace.time[number]) if hurried else None
    if style.extended:
        body |= _extensions(trace, number, style, patience)
    return Ask(float(trace.time[number]), body, patience)


def _extensions(trace: Trace, number: int, style: Style, patience: float | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"steps": int(trace.steps[number]), "seed": number}
    if not trace.guided[number]:
        fields["guidance_scale"] = 1.0
    elif style.guidance is not None:
        fields["guidance_scale"] = style.guidance
    if style.solver is not None:
        fields["solver"] = style.solver
    if trace.priority[number]:
        fields["priority"] = int(trace.priority[number])
    if patience is not None:
        fields["timeout_ms"] = math.ceil(round(1000 * patience, 3))
    return fields


def chosen(number: int, share: float) -> bool:
    """Whether request `number` is among a share of all that is spread evenly over them."""
    return math.floor((number + 1) * share) > math.floor(number * share)


def at_once(asked: Sequence[Ask]) -> list[Ask]:
    """The same requests, all sent at the beginning: what a server does when requests never lack."""
    return [Ask(0.0, one.body, one.patience_s) for one in asked]

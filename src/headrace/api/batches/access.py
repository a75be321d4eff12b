"""How routes find what batches keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from headrace.api.batches.runner import Runner
from headrace.api.batches.shelf import Shelf


@dataclass(frozen=True)
class Batching:
    """One app's batches: what is kept, and who works on it."""

    shelf: Shelf
    runner: Runner


def batching_of(request: Request) -> Batching:
    """Of the app that a request came to."""
    batching: Batching = request.app.state.batching
    return batching


Access = Annotated[Batching, Depends(batching_of)]

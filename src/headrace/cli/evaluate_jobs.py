"""Which pictures `headrace evaluate` has a model make: prompts or classes in turn, and a seed for each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.cli.generate import EngineOptions
from headrace.cli.jobs import Job
from headrace.errors import RequestError
from headrace.pictures.source import open_source
from headrace.request import Request


@dataclass(frozen=True)
class SampleOptions:
    """What is made: `count` pictures like `request`, with the prompts of a file, or of the data set's captions."""

    engine: EngineOptions
    count: int
    request: Request
    prompts: Path | None = None
    data: Path | None = None


@dataclass(frozen=True)
class Conditions:
    """What a model wants to be told for each picture: `texts` or `classes`, taken in turn; neither where it is free."""

    texts: tuple[str, ...] = ()
    classes: int = 0

    def warnings(self, count: int) -> list[str]:
        """What is worth knowing of `count` pictures made so."""
        if not self.classes or count % self.classes == 0:
            return []
        if count < self.classes:
            return [f"{count} samples show only {count} of the {self.classes} classes"]
        return [f"{count} samples are no multiple of the {self.classes} classes: some have one picture more"]


def find_conditions(options: SampleOptions, pipeline: Any) -> Conditions:
    """Asks the pipeline. Raises `RequestError`: a request that it cannot serve, or no prompts."""
    needed = needed_field(pipeline, options.request)
    if options.prompts is not None and needed != "prompt":
        raise RequestError("prompts", f"{pipeline.name} takes no prompts", "Leave --prompts out")
    if needed == "prompt":
        return Conditions(texts=tuple(_prompts(options)))
    return Conditions(classes=_classes(pipeline) if needed == "class_label" else 0)


def make_jobs(request: Request, count: int, conditions: Conditions) -> Iterator[Job]:
    """`count` jobs with seeds seed, seed + 1, ..., made as they are taken; the first of more are the same ones."""
    for number in range(count):
        update: dict[str, Any] = {"seed": request.seed + number}
        if conditions.texts:
            update["prompt"] = conditions.texts[number % len(conditions.texts)]
        if conditions.classes:
            update["class_label"] = number % conditions.classes
        yield Job(request.model_copy(update=update), f"{number:06d}", place=number)


def needed_field(pipeline: Any, request: Request) -> str | None:
    """The field that a request of this model cannot do without. Raises `RequestError` for any other fault."""
    try:
        pipeline.check(request)
    except RequestError as error:
        if error.field in ("prompt", "class_label"):
            return error.field
        raise
    return None


def _classes(pipeline: Any) -> int:
    config = pipeline.network.config
    return int(config.get("num_class_embeds") or config.get("num_embeds_ada_norm") or 1)


def _prompts(options: SampleOptions) -> list[str]:
    if options.prompts is not None:
        return read_prompts(options.prompts)
    entries = open_source(options.data).entries() if options.data is not None else iter(())
    found = [entry.caption for entry in entries if entry.caption]
    random.Random(0).shuffle(found)  # so that the first few stand for all, and more samples begin with the same
    return _checked(found, f"the captions of {options.data}")


def read_prompts(file: Path) -> list[str]:
    """The lines of a text file, blank ones left out. Raises `RequestError`: unreadable, empty, a prompt too long."""
    try:
        lines = file.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError("prompts", f"{file} cannot be read: {error}", "Give a text file") from None
    return _checked([line.strip() for line in lines if line.strip()], str(file))


def _checked(prompts: list[str], where: str) -> list[str]:
    if not prompts:
        raise RequestError(
            "prompts", f"a text-to-image model needs prompts, and {where} has none", "Add --prompts FILE"
        )
    for text in prompts:
        Request.parse({"prompt": text})
    return prompts

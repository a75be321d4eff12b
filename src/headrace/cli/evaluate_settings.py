"""The settings that one `headrace evaluate` measures a model at: solver and steps, one report each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.errors import RequestError
from headrace.request import Request

_FORM = re.compile(r"(?:(?P<solver>[^:\s]+):)?(?P<steps>\d{1,9})")


@dataclass(frozen=True)
class Setting:
    """`solver`: None for the model's own. `steps`: of inference."""

    solver: str | None
    steps: int

    @property
    def stem(self) -> str:
        """For file and folder names: `ddim-50`, `own-20`."""
        return f"{re.sub(r'[^A-Za-z0-9.+_-]', '-', self.solver or 'own')}-{self.steps}"

    def applied_to(self, request: Request) -> Request:
        """The request with this solver and these steps. Raises `RequestError`."""
        values = request.model_dump() | {"solver": self.solver, "steps": self.steps}
        return Request.parse(values)


def parse_setting(text: str) -> Setting:
    """`ddim:50` or, with the model's own solver, `50`. Raises `RequestError`."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise RequestError(
            "setting", f"--setting {text!r} is not accepted", "Write SOLVER:STEPS, such as ddim:50, or STEPS alone"
        )
    return Setting(match["solver"], int(match["steps"]))


def choose_settings(texts: Sequence[str], solver: str | None, steps: int | None) -> list[Setting]:
    """What `--setting` lists, each once; without it what `--solver` and `--steps` say. Raises `RequestError`."""
    if not texts:
        return [Setting(solver, 20 if steps is None else steps)]
    if solver is not None or steps is not None:
        raise RequestError("setting", "--setting and --solver or --steps were both given", "Give one of them")
    return list(dict.fromkeys(parse_setting(text) for text in texts))

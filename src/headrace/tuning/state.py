"""The state of a search on disk: every trial that was made, so that a search that stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from headrace.errors import TuningError
from headrace.files import write_file
from headrace.tuning.settings import Settings
from headrace.tuning.trial import Trial


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    identity: dict[str, str]
    trials: list[Trial]


class SearchState:
    """The trials of one search, kept in a JSON file that is written anew, by rename, with each of them.

    `identity` names everything that trials depend on besides their settings and their number of pictures. Raises
    `TuningError` for a file that belongs to another search, or cannot be read.
    """

    def __init__(self, path: Path | None, identity: dict[str, str]) -> None:
        self._path = path
        self._identity = identity
        self._trials: dict[tuple[str, int], Trial] = {}
        if path is not None and path.exists():
            for trial in self._read(path):
                self._trials[trial.settings.identity, trial.pictures] = trial

    def __len__(self) -> int:
        return len(self._trials)

    def __iter__(self) -> Iterator[Trial]:
        """In the order in which they were made."""
        return iter(self._trials.values())

    def get(self, settings: Settings, pictures: int) -> Trial | None:
        """The trial of these settings, if it was made."""
        return self._trials.get((settings.identity, pictures))

    def add(self, trial: Trial) -> None:
        """Keeps a trial. Raises `OutputError` where it cannot be written."""
        self._trials[trial.settings.identity, trial.pictures] = trial
        if self._path is None:
            return
        lines = ",\n".join(f"  {one.model_dump_json()}" for one in self)
        text = f'{{\n "identity": {json.dumps(self._identity)},\n "trials": [\n{lines}\n ]\n}}\n'
        write_file(self._path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def _read(self, path: Path) -> list[Trial]:
        try:
            found = _File.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise TuningError(
                f"{str(path)!r} is not the state of a search: {reason}", "Remove it to begin anew, or restore it"
            ) from None
        names = sorted({*found.identity, *self._identity})
        for name in names:
            theirs, own = found.identity.get(name), self._identity.get(name)
            if theirs != own:
                raise TuningError(
                    f"{str(path)!r} holds a search with {name} {theirs}, and this one has {name} {own}",
                    "Give another folder with --out, or remove the file to begin anew",
                )
        return found.trials

"""Where results leave an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from headrace.engine.decoding import Pixels
from headrace.engine.result import Result
from headrace.engine.slot import Job, Slot
from headrace.errors import HeadraceError


class Outbox:
    """Makes results of jobs and hands them to `on_result` as soon as they are there, or keeps them until asked for.

    `settings` says what a job came to.
    """

    def __init__(self, settings: Callable[[Job], Mapping[str, object]]) -> None:
        self.on_result: Callable[[Result], None] | None = None
        self._settings = settings
        self._results: list[Result] = []

    def failed(self, job: Job, error: HeadraceError) -> None:
        """A request that failed before it had a slot."""
        self._emit(replace(self._result(job, {}), error=error))

    def finished(self, slot: Slot, outcome: Pixels | HeadraceError) -> None:
        """A request whose slot is free again, with its pictures [P, H, W, channels] or what it failed with."""
        result = self._result(slot.job, slot.fusion_record)
        if isinstance(outcome, HeadraceError):
            self._emit(replace(result, error=outcome))
        else:
            self._emit(replace(result, pixels=outcome[0], others=tuple(outcome[1:])))

    def _result(self, job: Job, record: Mapping[str, object]) -> Result:
        return Result(job.number, job.request, job.plan, {**self._settings(job), **record})

    def _emit(self, result: Result) -> None:
        if self.on_result is None:
            self._results.append(result)
        else:
            self.on_result(result)

    def collect(self) -> list[Result]:
        """What came since the last call, in that order."""
        results, self._results = self._results, []
        return results

    def put_back(self, results: Sequence[Result]) -> None:
        """Keeps for the next call what this one did not ask for."""
        self._results.extend(results)

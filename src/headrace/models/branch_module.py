"""A module of a network's deep branch, which rows may skip together with the rest of the branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from headrace.models.row_call import RowCall
from headrace.models.wrapper import Wrapper, in_form, select, tensor_of

if TYPE_CHECKING:
    from headrace.models.row_cache import RowCache


class BranchModule(Wrapper):
    """Stands in the place of one module of a branch. Between them the network's own `forward` hands on a small batch.

    The first module takes the rows that evaluate the branch out of the call's, the others get just these, and the last
    one puts the reused rows back. What comes past the hidden state (embeddings, text, masks) still has every row, and
    each module selects from it. Where no row evaluates the branch, nothing of it runs: empty tensors pass through.
    """

    def __init__(self, block: torch.nn.Module, index: int, cache: RowCache, held: bool, last: bool) -> None:
        super().__init__(block, index, cache)
        self._held = held  # what comes in is what the branch adds to
        self._last = last

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the module returns, with as many rows as evaluate the branch; with all of them from the last module."""
        call = self._cache.call
        if call is None:
            return self.block(hidden_states, *args, **kwargs)
        if self._held:
            call.hold(self._index, hidden_states)
        computing, reusing = call.split(self._index)
        if not len(reusing):
            returned = self.block(hidden_states, *args, **kwargs)
            if self._last and call.keeps(self._index):
                call.keep(self._index, computing, tensor_of(returned), call.held(self._index))
            return returned
        if len(computing):
            returned = self._compact(call, hidden_states, args, kwargs)
        else:
            returned = self._passed(hidden_states[:0], kwargs)
        return in_form(self._filled(call, tensor_of(returned)), kwargs) if self._last else returned

    def _compact(self, call: RowCall, hidden_states: torch.Tensor, args: Any, kwargs: Any) -> Any:
        """Evaluates the module for the rows that evaluate the branch; their hidden states may be selected already."""
        computing, _ = call.split(self._index)
        given = select((hidden_states, args, kwargs), call.upload(computing), call.count)
        with call.among(computing):
            return self.block(given[0], *given[1], **given[2])

    def _passed(self, empty: torch.Tensor, kwargs: dict[str, Any]) -> Any:
        """No rows, in the form in which the module returns them: a level on the way down returns its layers' states.

        The size stays that of the branch's first module, so that the level it lies in can put what it gets together.
        """
        level: Any = self.block
        if hasattr(level, "downsamplers"):
            return empty, (empty,) * (len(level.resnets) + len(level.downsamplers or ()))
        return in_form(empty, kwargs)

    def _filled(self, call: RowCall, evaluated: torch.Tensor) -> torch.Tensor:
        computing, reusing = call.split(self._index)
        base = call.held(self._index)
        if not len(computing):
            return call.reuse(self._index, reusing, base, evaluated.dtype)
        own = None if base is None else base.index_select(0, call.upload(computing))
        call.keep(self._index, computing, evaluated, own)
        return call.filled(self._index, evaluated, base)

"""A block of a denoising network whose rows may reuse what it added to an earlier row of their request."""

from __future__ import annotations

from typing import Any

import torch

from headrace.models.blocks import residual
from headrace.models.row_call import RowCall
from headrace.models.wrapper import Wrapper, in_form, select, tensor_of


class CachedBlock(Wrapper):
    """Stands in a block's place. Rows that evaluate it are compacted, the others reuse."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the block returns: [N, ...], in a tuple where it is asked for without a dictionary."""
        call = self._cache.call
        if call is None:
            return self.block(hidden_states, *args, **kwargs)
        computing, reusing = call.split(self._index)
        if not len(reusing):
            returned = self.block(hidden_states, *args, **kwargs)
            if call.keeps(self._index):
                call.keep(self._index, computing, tensor_of(returned), residual(self.block, hidden_states))
            return returned
        base = residual(self.block, hidden_states)
        if len(computing):
            output = self._mixed(call, hidden_states, base, (args, kwargs))
        else:
            output = call.reuse(self._index, reusing, base, hidden_states.dtype)
        return in_form(output, kwargs)

    def _mixed(
        self, call: RowCall, hidden_states: torch.Tensor, base: torch.Tensor | None, arguments: Any
    ) -> torch.Tensor:
        """Some rows evaluate, compacted into a smaller batch, and the others reuse."""
        computing, _ = call.split(self._index)
        compute = call.upload(computing)
        args, kwargs = select(arguments, compute, len(hidden_states))
        with call.among(computing):
            evaluated = tensor_of(self.block(hidden_states.index_select(0, compute), *args, **kwargs))
        call.keep(self._index, computing, evaluated, None if base is None else base.index_select(0, compute))
        return call.filled(self._index, evaluated, base)

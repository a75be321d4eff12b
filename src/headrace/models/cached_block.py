"""A block of a denoising network whose rows may reuse what it added to an earlier row of their request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

from headrace.models.blocks import residual

if TYPE_CHECKING:
    from headrace.models.row_cache import RowCache
    from headrace.models.row_call import RowCall


class CachedBlock(torch.nn.Module):
    """Stands in a block's place in the module tree. Rows that evaluate it are compacted, the others reuse.

    Holds no value of any request: they come with the rows of the call.
    """

    def __init__(self, block: torch.nn.Module, index: int, cache: RowCache) -> None:
        super().__init__()
        self.block = block
        self._index = index
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        """The block's own attributes: a DiT takes its embedding out of its first block."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the block returns: [N, ...], in a tuple where it is asked for without a dictionary."""
        call = self._cache.call
        if call is None:
            return self.block(hidden_states, *args, **kwargs)
        computing, reusing = call.split(self._index)
        if not len(reusing):
            returned = self.block(hidden_states, *args, **kwargs)
            if call.keeps(self._index):
                call.keep(self._index, computing, _tensor(returned), residual(self.block, hidden_states))
            return returned
        base = residual(self.block, hidden_states)
        if len(computing):
            output = self._mixed(call, hidden_states, base, (args, kwargs))
        else:
            output = call.reuse(self._index, reusing, base)
        return (output,) if kwargs.get("return_dict") is False else output

    def _mixed(self, call: RowCall, hidden_states: torch.Tensor, base: torch.Tensor, arguments: Any) -> torch.Tensor:
        """Some rows evaluate, compacted into a smaller batch, and the others reuse."""
        computing, reusing = call.split(self._index)
        compute, reuse = call.upload(computing), call.upload(reusing)
        args, kwargs = _select(arguments, compute, len(hidden_states))
        evaluated = _tensor(self.block(hidden_states.index_select(0, compute), *args, **kwargs))
        call.keep(self._index, computing, evaluated, base.index_select(0, compute))
        output = torch.empty_like(base)
        output.index_copy_(0, compute, evaluated)
        return output.index_copy_(0, reuse, call.reuse(self._index, reusing, base.index_select(0, reuse)))


def _tensor(returned: Any) -> torch.Tensor:
    return returned[0] if isinstance(returned, tuple) else returned


def _select(arguments: Any, indices: torch.Tensor, rows: int) -> Any:
    """Those rows of every tensor among a block's arguments that has a row for each row of the call."""

    def chosen(value: Any) -> Any:
        has_rows = isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == rows
        return value.index_select(0, indices) if has_rows else value

    return tree_map(chosen, arguments)

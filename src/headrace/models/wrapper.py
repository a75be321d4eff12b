"""What stands in a module's place in the module tree while a cache is attached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

if TYPE_CHECKING:
    from headrace.models.row_cache import RowCache


class Wrapper(torch.nn.Module):
    """Holds a module, `block`, and its number in the cache. No value of any request: they come with the call's rows."""

    def __init__(self, block: torch.nn.Module, index: int, cache: RowCache) -> None:
        super().__init__()
        self.block = block
        self._index = index
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        """The block's own attributes: a U-Net counts the layers of its levels, a DiT takes its embedding out of one."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module itself, whatever stands in its place."""
    while isinstance(module, Wrapper):
        module = module.block
    return module


def tensor_of(returned: Any) -> torch.Tensor:
    """The hidden state that a module returned, alone or in a tuple."""
    return returned[0] if isinstance(returned, tuple) else returned


def in_form(output: torch.Tensor, keywords: dict[str, Any]) -> Any:
    """A hidden state as a module returns it that was called with these keywords."""
    return (output,) if keywords.get("return_dict") is False else output


def select(arguments: Any, indices: torch.Tensor, rows: int) -> Any:
    """Those rows of every tensor among a module's arguments that has `rows` of them, one for each active row."""

    def chosen(value: Any) -> Any:
        has_rows = isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == rows
        return value.index_select(0, indices) if has_rows else value

    return tree_map(chosen, arguments)

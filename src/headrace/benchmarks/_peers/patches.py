"""Takes off a network what a library has put on its modules."""

from __future__ import annotations

from typing import Any

import torch


class Patches:
    """Remembers which attributes every module of a network has, so that those put on afterwards can be removed.

    The libraries of the peers replace `forward` on instances and leave values there when they are switched off.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._before: list[tuple[torch.nn.Module, dict[str, Any]]] = [
            (module, dict(vars(module))) for module in network.modules()
        ]

    def remove(self) -> None:
        """Removes the attributes that are new, and puts a `forward` back that was an instance's own before."""
        for module, before in self._before:
            for name in set(vars(module)) - set(before):
                delattr(module, name)
            if "forward" in before:
                module.forward = before["forward"]

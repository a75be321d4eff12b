"""Faster Diffusion's idea: a U-Net's encoder evaluated on key rows only, its decoder on all."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch.utils.hooks import RemovableHandle

from headrace.benchmarks._peers.peer import Uncached
from headrace.errors import HeadraceError
from headrace.plan import Plan

# The authors' key steps of 50, from the first one on: the encoder changes most at the start.
_KEYS, _OF = (0, 1, 2, 3, 5, 10, 15, 25, 35), 50


class FasterDiffusion(Uncached):
    """Encoder propagation (Li, Hu et al., NeurIPS 2024, arXiv:2312.09608): the idea, in code of our own.

    On a key row the whole network runs, and what its decoder is given is kept: the middle block's output and every skip
    connection. On the other rows the decoder alone runs, on the kept features and the row's own time embedding; the
    row's sample does not enter at all, save by the solver's update. The authors publish a repository and no package;
    their pipelines repeat those of an older diffusers, so their code is not run here.

    Key rows are those of the authors for 50 steps, [0, 1, 2, 3, 5, 10, 15, 25, 35], at the same shares of any number of
    rows; or, with `interval`, every so many (the paper's uniform strategy). Two things of the paper are left out: rows
    between two key rows do not depend on each other's network outputs and could run as one batch (here every peer
    runs row by row, as a plan does), and the noise that the authors add to the latents in the second half against
    smooth textures, which changes the solver and not the network.

    Reported (abstract and repository): SD 1.5, 50 DDIM steps, 41% less time, 2.369 -> 1.407 s (x1.68) on an A40 with
    the rows in parallel.

    Raises `HeadraceError` for an interval below 1, and when attached to a network that conditions on more than text.
    """

    source = "Li et al., NeurIPS 2024 (idea, own code)"
    claim = "9 key steps of 50, in parallel: x1.68 (SD 1.5, A40)"
    caches = True

    def __init__(self, interval: int | None = None) -> None:
        super().__init__()
        if interval is not None and interval < 1:
            raise HeadraceError(f"Faster Diffusion with interval {interval}", "From 1 on, or none for the paper's rows")
        self.interval = interval
        self.name = f"Faster Diffusion ({'non-uniform' if interval is None else f'N={interval}'}, idea)"
        self._keys: frozenset[int] = frozenset()
        self._handles: list[RemovableHandle] = []
        self._kept: list[dict[str, Any]] = []

    def key_rows(self, rows: int) -> tuple[int, ...]:
        """The rows on which the encoder runs, row 0 always among them."""
        if self.interval is not None:
            return tuple(range(0, rows, self.interval))
        return tuple(sorted({key * rows // _OF for key in _KEYS}))

    def _check(self, network: UNet2DConditionModel, plan: Plan) -> None:
        more = ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type")
        found = next((name for name in more if network.config.get(name) is not None), None)
        if found is not None:
            raise HeadraceError(
                f"Faster Diffusion's idea is written for networks of text alone, and this one has {found}",
                "Use Stable Diffusion 1 or 2",
            )

    def _patch(self, network: UNet2DConditionModel, plan: Plan) -> None:
        self._keys = frozenset(self.key_rows(len(plan)))
        self._handles = [block.register_forward_pre_hook(self._keep, with_kwargs=True) for block in network.up_blocks]

    def _unpatch(self, network: UNet2DConditionModel) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._kept = [], []

    def _start(self) -> None:
        self._kept = []

    def _keep(self, block: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What diffusers gives the blocks of the decoder, by name, in their order."""
        self._kept.append(kwargs)

    def _evaluate(
        self, row: int, sample: torch.Tensor, timestep: float, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        if row in self._keys:
            self._kept = []
            return super()._evaluate(row, sample, timestep, encoder_hidden_states)
        return self._decode(sample, timestep).float()

    def _decode(self, sample: torch.Tensor, timestep: float) -> torch.Tensor:
        """The decoder on what was kept; of `sample` only number, device and dtype count."""
        network = self._network
        assert network is not None
        kept, self._kept = self._kept, []  # the hooks see this call too
        told = torch.tensor(timestep, dtype=torch.float32)
        embedded = network.time_embedding(network.get_time_embed(sample.to(network.dtype), told))
        if network.time_embed_act is not None:
            embedded = network.time_embed_act(embedded)
        hidden = kept[0]["hidden_states"]
        for block, given in zip(network.up_blocks, kept, strict=True):
            hidden = block(**{**given, "hidden_states": hidden, "temb": embedded})
        self._kept = kept
        if network.conv_norm_out is not None:
            hidden = network.conv_act(network.conv_norm_out(hidden))
        return network.conv_out(hidden)

"""Pyramid attention broadcast: attention outputs reused for a fixed number of rows."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.hooks import HookRegistry, PyramidAttentionBroadcastConfig, apply_pyramid_attention_broadcast

from headrace.benchmarks._peers.peer import Uncached
from headrace.errors import HeadraceError
from headrace.plan import Plan

_HOOK = "pyramid_attention_broadcast"
_TIMESTEPS = (100.0, 800.0)  # what diffusers documents
_BLOCKS = (r"transformer_blocks\.\d+\.attn[12]$",)


class AttentionBroadcast(Uncached):
    """Pyramid attention broadcast (Zhao, Jin, Wang and You, ICLR 2025, arXiv:2408.12588) by diffusers' own hooks.

    Every self-attention is computed on each `self_range`-th row and every cross-attention on each `cross_range`-th, and
    its output reused on the rows between, as long as the timestep lies strictly within `timesteps`; outside, all are
    computed. It was made for video transformers, which have a temporal attention besides; on a U-Net the hooks go on
    `attn1` and `attn2` of every BasicTransformerBlock. The defaults are the paper's ranges for spatial and cross
    attention (PAB 2-4-6) and the timesteps that diffusers documents.

    Reported (Table 1, Open-Sora, one H100, against its own uncached videos), no figures exist for U-Nets: PAB 2-4-6
    26.54 -> 19.87 s (x1.34), PSNR 27.04, SSIM 0.885, VBench 79.22 -> 78.51; 3-5-7 x1.37, PSNR 24.50, SSIM 0.841; 5-7-9
    x1.43, PSNR 23.58, SSIM 0.822. Up to x10.5 with eight GPUs.

    Raises `HeadraceError` for ranges below 1 or timesteps in the wrong order.
    """

    source = "Zhao et al., ICLR 2025"
    claim = "2-4-6: x1.34, PSNR 27.0 (Open-Sora; none for U-Nets)"
    caches = True

    def __init__(self, self_range: int = 2, cross_range: int = 6, timesteps: tuple[float, float] = _TIMESTEPS) -> None:
        super().__init__()
        if self_range < 1 or cross_range < 1 or timesteps[0] >= timesteps[1]:
            raise HeadraceError(
                f"attention broadcast with ranges {self_range} and {cross_range} within {timesteps}",
                "Ranges from 1 on, and the lower timestep first",
            )
        self.self_range, self.cross_range, self.timesteps = self_range, cross_range, timesteps
        within = "" if timesteps == _TIMESTEPS else f", t {timesteps[0]:g} to {timesteps[1]:g}"
        self.name = f"PAB (self {self_range}, cross {cross_range}{within})"
        self._timestep = 0.0

    def _patch(self, network: UNet2DConditionModel, plan: Plan) -> None:
        config = PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=self.self_range,
            cross_attention_block_skip_range=self.cross_range,
            spatial_attention_timestep_skip_range=self.timesteps,
            cross_attention_timestep_skip_range=self.timesteps,
            spatial_attention_block_identifiers=_BLOCKS,
            cross_attention_block_identifiers=_BLOCKS,
            current_timestep_callback=lambda: self._timestep,
        )
        apply_pyramid_attention_broadcast(network, config)

    def _unpatch(self, network: UNet2DConditionModel) -> None:
        HookRegistry.check_if_exists_or_initialize(network).remove_hook(_HOOK)

    def _start(self) -> None:
        HookRegistry.check_if_exists_or_initialize(self._network).reset_stateful_hooks()

    def _evaluate(
        self, row: int, sample: torch.Tensor, timestep: float, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        self._timestep = timestep
        return super()._evaluate(row, sample, timestep, encoder_hidden_states)

"""FB-AE: one latent for K images, so that one trajectory and one decoding make K pictures (FuseBatch, section 3.4)."""

from __future__ import annotations

import inspect
from typing import Any

from diffusers import AutoencoderKL
from torch import nn

from headrace.errors import ModelError
from headrace.techniques.fusebatch.fusion import Fusion, Unfusion, fused_channels
from headrace.techniques.fusebatch.model import check_factors
from headrace.techniques.fusebatch.transfer import copy_named

_HEAD = "decoder.conv_norm_out"


class FuseBatchAutoencoderKL(AutoencoderKL):
    """`R^{BxKxd} -> Fusion -> Encoder -> R^{Bxm} -> Decoder body -> Unfusion -> head -> R^{BxKxd}` (equation 7).

    An `AutoencoderKL` whose encoder begins with the fusion of K images [B*K, C, H, W], so that its `conv_in` takes 8C
    channels and its latents are [B, m, h, w], and whose decoder unfuses before its last norm, activation and
    convolution, which every image has of its own: [B, m, h, w] -> [B*K, C, H, W] (equation 8), the K of a latent
    together. All else is as in diffusers, so a latent diffusion model is trained and sampled on it like on any other.
    K is fixed here: steps of one trajectory cannot differ in it.

    `factor` is K; the other arguments are those of `AutoencoderKL`, of one image. Raises `ModelError` for a K below 2.
    """

    __module__ = "headrace"

    def __init__(self, factor: int, kernel_size: int = 3, **autoencoder: Any) -> None:
        check_factors([factor])
        if factor == 1:
            raise ModelError("a fused autoencoder of K = 1 fuses nothing", "Use diffusers' AutoencoderKL")
        channels = autoencoder.get("in_channels", 3)
        super().__init__(**{**autoencoder, "in_channels": fused_channels(channels)})
        self.register_to_config(factor=factor, kernel_size=kernel_size, in_channels=channels)
        encoder, decoder = self.encoder, self.decoder
        encoder.conv_in = nn.Sequential(Fusion(channels, factor, kernel_size), encoder.conv_in)
        unfusion = Unfusion(self.config.block_out_channels[0], factor)
        decoder.conv_norm_out = nn.Sequential(unfusion, decoder.conv_norm_out)

    @property
    def pictures(self) -> int:
        """Pictures that one latent is decoded to: K."""
        return int(self.config["factor"])

    def initialise_from(self, vanilla: AutoencoderKL) -> None:
        """Takes over a trained autoencoder of one image: all but the encoder's `conv_in`. Unfusion is the identity.

        Raises `ModelError` where the configurations differ.
        """
        target = self.state_dict()
        kept = [name for name in target if not name.startswith(("encoder.conv_in.", f"{_HEAD}.0."))]
        copy_named(vanilla.state_dict(), target, {name: name.replace(f"{_HEAD}.1.", f"{_HEAD}.") for name in kept})
        self.decoder.conv_norm_out[0].start_as_identity()


def _with_those_of_one_image() -> inspect.Signature:
    """diffusers reads from it which settings of a configuration file are given to the class."""
    own = inspect.signature(FuseBatchAutoencoderKL.__init__).parameters
    theirs = inspect.signature(AutoencoderKL.__init__).parameters
    named = [parameter for name, parameter in own.items() if name != "autoencoder"]
    return inspect.Signature([*named, *(one for name, one in theirs.items() if name != "self")])


setattr(FuseBatchAutoencoderKL.__init__, "__signature__", _with_those_of_one_image())  # noqa: B010

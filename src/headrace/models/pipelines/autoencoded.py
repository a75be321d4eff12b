"""What the families on the latents of an autoencoder share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from headrace.models.chunked_decoder import ChunkedDecoder, can_be_cut
from headrace.models.pipelines.base import Chunk, LatentShape, Pipeline, to_pixels
from headrace.models.pipelines.pixel import downsampling, square


class AutoencodedPipeline(Pipeline):
    """A network that denoises what an autoencoder makes of pictures (Rombach et al. 2022)."""

    @property
    @abstractmethod
    def autoencoder(self) -> Any:
        """The `AutoencoderKL` or `VQModel` whose decoder makes the pictures."""

    @property
    @override
    def pictures(self) -> int:
        # A registered autoencoder of its own may decode a latent to several (FB-AE); those of diffusers make one.
        return int(getattr(self.autoencoder, "pictures", 1))

    @property
    def factor(self) -> int:
        """Pixels to a latent's edge."""
        return downsampling(self.autoencoder)

    @property
    @override
    def default_size(self) -> tuple[int, int]:
        config: Any = self.network.config
        height, width = square(config.sample_size)
        return height * self.factor, width * self.factor

    @override
    def latent_shape(self, height: int, width: int) -> LatentShape:
        config: Any = self.network.config
        return int(config.in_channels), height // self.factor, width // self.factor

    @override
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return to_pixels(self.autoencoder.decode(self.decoder_input(latents), return_dict=False)[0])

    @property
    @override
    def max_chunks(self) -> int:
        return ChunkedDecoder(self.autoencoder, 1, 1).max_chunks if can_be_cut(self.autoencoder) else 1

    @override
    def decoder_chunks(self, shape: LatentShape, chunks: int) -> Sequence[Chunk]:
        self.ready_decoder()
        if chunks == 1 or self.max_chunks == 1:
            return [self.decode]
        first, *middle, last = ChunkedDecoder(self.autoencoder, *shape[1:]).chunks(chunks)
        return [
            lambda latents: first(self.decoder_input(latents)),
            *middle,
            lambda state: to_pixels(last(state)),
        ]

    def decoder_input(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the decoder takes them."""
        self.ready_decoder()
        return self.unscaled(latents).to(self.autoencoder.dtype)

    def ready_decoder(self) -> None:
        """Does once what the decoder needs before it is called."""
        return

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """What the encoder's output was multiplied by for training, undone."""
        return latents / self.autoencoder.config.scaling_factor

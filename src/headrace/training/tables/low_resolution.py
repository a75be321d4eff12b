"""The table of a phase that learns the noisy part of denoising at low size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headrace.training.tables.table import Table


class LowResolutionTable(Table):
    """Prepares a network for mixed-resolution denoising (PostDiff, supplement, appendix F).

    Items whose noise level lies in the first `share` of denoising are learnt at `scale` of the size, all others at the
    full size. A share of 0 and a scale of 1 change nothing.

    What is made small decides what sampling meets at the change of size, where latents are enlarged. Of the embedded
    model at half size, averaged latents come back with a relative error of 0.62 to 0.64 by the way of enlarging, and
    encodings of half-size pictures with 0.87 to 0.96: the encoder does not commute with resizing.
    """

    share: float = Field(ge=0, le=1, description="of denoising, from its noisy end, that is learnt at low size")
    scale: float = Field(gt=0, le=1, description="low size as a fraction of the full one, rounded as the network needs")
    resized: Literal["latents", "pictures"] = Field(
        "latents",
        description="what is made small. latents: the full ones are averaged, as sampling enlarges latents where the "
        "size changes. pictures: small pictures are encoded, as in the paper. In the space of pixels they are the same",
    )

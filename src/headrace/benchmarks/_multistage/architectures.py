"""The architectures of the paper's tables 5, 6 and 7, as diffusers' blocks express them, beside its figures.

What the paper does not say follows from its figures. The shared half is the encoder with its mid block (43M and 5.75
GMAC, 108M and 22.71). CIFAR-10's blocks resample inside ResNet blocks, as DDPM++ does. Attention is not counted in the
GMAC. In table 6 the second and third decoders have the parameters of decoders without attention. Table 5's widths other
than 192/128/16, and the encoders of table 7, are those whose GMAC agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.benchmarks._multistage.cost import Halves, halves
from headrace.techniques.multistage.schedule import PAPER, Stages, interpolated

# DDPM++ (deep), and the LDM of CelebA-HQ: at a width of 1, multiplied by that of the encoder.
_CIFAR = {
    "sample_size": 32,
    "block_out_channels": (1, 2, 2, 2),
    "layers_per_block": 8,
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", *("ResnetDownsampleBlock2D",) * 2),
    "up_block_types": (*("ResnetUpsampleBlock2D",) * 2, "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "attention_head_dim": 2,  # one head
    "norm_eps": 1e-6,
}
_LDM = {
    "sample_size": 64,
    "block_out_channels": (1, 2, 3, 4),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * 3),
    "up_block_types": (*("AttnUpBlock2D",) * 3, "UpBlock2D"),
    "attention_head_dim": 32,
}
Figures = tuple[float, float]  # millions of parameters, GMAC


@dataclass(frozen=True)
class Architecture:
    """An encoder, decoders nearest the image first, and what the paper says that they cost.

    `paper` is (millions of parameters, GMAC) of each stage, encoder included; `shared` of the encoder, `total` of all
    parameters and the GMAC that it averages. None is what the paper does not say.
    """

    name: str
    encoder: int
    decoders: tuple[int, ...]
    paper: tuple[Figures, ...]
    total: Figures
    shared: Figures | None = None
    latent: bool = False
    attention: tuple[bool, ...] | None = None

    @property
    def unet(self) -> dict[str, Any]:
        """The configuration of the `UNet2DModel` with the encoder's widths."""
        base: dict[str, Any] = _LDM if self.latent else _CIFAR
        widths = tuple(self.encoder * multiple for multiple in base["block_out_channels"])
        head = 32 if self.latent else widths[1]
        return {**base, "block_out_channels": widths, "attention_head_dim": head}

    def cost(self) -> Halves:
        """Counted on the network itself."""
        return halves(self.unet, self.decoders, self.attention)


def _ldm(number: int, encoder: int, decoders: tuple[int, int, int], *figures: Figures) -> Architecture:
    *paper, shared, total = figures
    # In table 6 the first decoder alone has attention.
    return Architecture(
        f"table 6, no. {number}", encoder, decoders, tuple(paper), total, shared, True, (True, False, False)
    )


def _cifar(number: int, encoder: int, decoders: tuple[int, ...], *figures: Figures) -> Architecture:
    *paper, shared, total = figures
    return Architecture(f"table 5, no. {number}", encoder, decoders, tuple(paper), total, shared)


UNIFIED = Architecture("unified", 128, (128,), ((108, 17.65),), (108, 17.65))
CHOSEN = _cifar(1, 128, (192, 128, 16), (169, 29.95), (108, 17.65), (47, 6.31), (43, 5.75), (237, 18.65))
UNIFIED_LDM = Architecture("unified LDM", 224, (224,), ((274, 88.39),), (274, 88.39), latent=True)
CHOSEN_LDM = _ldm(
    4, 224, (256, 192, 128), (316, 105.82), (224, 72.97), (170, 48.17), (108, 22.71), (494, 76.19)
)  # fmt: skip
TABLES = (
    UNIFIED,
    CHOSEN,
    _cifar(2, 160, (160, 128, 16), (168, 27.57), (138, 21.73), (72, 9.65), (68, 8.98), (242, 19.7)),
    _cifar(3, 192, (144, 112, 16), (189, 29.43), (160, 23.91), (103, 13.7), (98, 12.93), (256, 22.45)),
    _cifar(4, 192, (128, 64, 16), (174, 26.54), (126, 17.62), (103, 13.7), (98, 12.93), (207, 22.45)),
    UNIFIED_LDM,
    _ldm(1, 192, (224, 192, 160), (238, 80.03), (189, 64.95), (161, 51.87), (79, 16.69), (428, 65.75)),
    _ldm(2, 160, (224, 192, 128), (206, 72.61), (158, 57.85), (108, 34.38), (55, 11.6), (361, 54.37)),
    _ldm(3, 224, (224, 192, 128), (274, 88.39), (224, 72.97), (170, 48.17), (108, 22.71), (452, 69.22)),
    CHOSEN_LDM,
    Architecture("table 7, 2 stages", 128, (176, 124), ((136, 26.59), (95, 16.85)), (188, 21.49)),
    Architecture(
        "table 7, 4 stages", 96, (208, 144, 112, 32),
        ((159, 29.78), (95, 16.85), (71, 11.97), (32, 4.41)), (284, 17.33),
    ),
    Architecture(
        "table 7, 5 stages", 64, (224, 160, 160, 64, 48),
        ((154, 30.38), (88, 16.82), (88, 16.82), (27, 4.42), (21, 3.28)), (336, 17.03),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One part of an architecture: what it costs here, in the paper, and by how much the two differ."""

    architecture: str
    part: str
    ours: Figures
    paper: Figures

    @property
    def errors(self) -> Figures:
        """Relative, of parameters and GMAC."""
        parameters, gmac = (own / other - 1 for own, other in zip(self.ours, self.paper, strict=True))
        return parameters, gmac

    @property
    def within(self) -> bool:
        """Whether both are within 5%."""
        return all(abs(error) <= 0.05 for error in self.errors)


def compare(architecture: Architecture, rows: Sequence[float]) -> list[Line]:
    """Each stage, the shared half and the whole against the paper; `rows` of a sampling that are in each stage."""
    cost = architecture.cost()
    count = len(architecture.decoders)
    lines = [
        Line(architecture.name, f"stage {number}/{count}", (stage.millions, stage.gmac), paper)
        for number, (stage, paper) in enumerate(zip(cost.stages, architecture.paper, strict=True), 1)
    ]
    if architecture.shared is not None:
        shared = cost.encoder.millions, cost.encoder.gmac
        lines.append(Line(architecture.name, "shared", shared, architecture.shared))
    if count > 1:
        whole = cost.parameters / 1e6, cost.average_gmac(rows)
        lines.append(Line(architecture.name, "total", whole, architecture.total))
    return lines


def by_equation_23(stages: Stages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For other stages than three: millions of parameters, and decoder widths, as equation 23 has them of table 5's."""
    parameters = tuple(float(millions) for millions, _ in CHOSEN.paper)
    return interpolated(stages, PAPER[3], parameters), interpolated(stages, PAPER[3], CHOSEN.decoders)

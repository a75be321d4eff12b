"""The pipeline protocol: what the engine needs to know of a model family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from headrace.errors import PlanError, RequestError, UnsupportedModelError
from headrace.models.conditioning import Conditioning
from headrace.models.denoiser import Rows
from headrace.request import Request

if TYPE_CHECKING:
    from headrace.models.row_cache import RowCache
    from headrace.plan.plan import Plan

LatentShape = tuple[int, int, int]
# A part of a decoder: what the part before it left, [N, ...], -> what the next one takes.
Chunk = Callable[[torch.Tensor], torch.Tensor]


class Pipeline(ABC):
    """One loaded model: encodes conditioning, evaluates rows, decodes latents. Holds no state of any request.

    `components` is the diffusers pipeline that was loaded from the folder; its networks, tokenizers and solver are used
    as they are. Subclasses are the families.
    """

    family: ClassVar[str]
    # Class names of the networks that the family's adapter can call.
    networks: ClassVar[frozenset[str]]
    default_guidance: ClassVar[float] = 1.0
    # Lets rows reuse what blocks of the network added to earlier rows, where one is set.
    row_cache: RowCache | None = None

    def __init__(self, components: Any, name: str) -> None:
        self.components = components
        self.name = name

    @property
    def columns(self) -> frozenset[str]:
        """What the denoiser reads of a plan, besides guidance: decision columns and what follows from them."""
        return frozenset() if self.row_cache is None else self.row_cache.columns

    @property
    def fusion_factors(self) -> tuple[int, ...]:
        """K's of the plan's column `fusion` that the network has: images that share an evaluation (FuseBatch)."""
        return (1,)

    @property
    def pictures(self) -> int:
        """Pictures that one request's latents are decoded to: 1, or the K of a fused autoencoder (FB-AE)."""
        return 1

    def own_decisions(self, plan: Plan) -> Plan:
        """The plan with what the model itself decides where nobody else does, such as its network's fusion policy."""
        return plan

    def check_plan(self, plan: Plan) -> None:
        """Raises `PlanError` for values of the columns that this model cannot carry out."""
        return None

    @property
    @abstractmethod
    def network(self) -> torch.nn.Module:
        """The denoising network's module."""

    @property
    @abstractmethod
    def default_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the model was trained at."""

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """Height and width must be multiples of this many pixels."""

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> LatentShape:
        """(C, h, w) of the latents of a picture of this size in pixels."""

    @property
    def latent_multiple(self) -> int:
        """Latents of rows below full size have a height and a width that are multiples of this."""
        return 1

    def scaled_shape(self, shape: LatentShape, scale: float) -> LatentShape:
        """(C, h, w) of a row at `scale` of latents of this shape, rounded as the network needs.

        Raises `PlanError` where rounding leaves no other size, or none as small.
        """
        if scale == 1.0:
            return shape
        multiple = self.latent_multiple
        height, width = (max(1, int(side * scale / multiple + 0.5)) * multiple for side in shape[1:])
        sides = (height / shape[1], width / shape[2])
        if any(side >= 1.0 if scale < 1.0 else side <= 1.0 for side in sides):
            raise PlanError(
                f"the plan has rows at scale {scale:g} of latents of {shape[1]}x{shape[2]}, and {self.name}, whose "
                f"latents are multiples of {multiple}, would evaluate them at {height}x{width}",
                "Ask for a larger picture or another scale, or leave the scale at 1",
            )
        return shape[0], height, width

    def size_conditions(self, shape: LatentShape) -> dict[str, torch.Tensor]:
        """What the network is told of the size of latents of this shape: name -> tensor, without a batch dimension."""
        return {}

    @abstractmethod
    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        """The conditioning of each (checked) request, text encoders called in batches."""

    def denoise(self, rows: Rows) -> torch.Tensor:
        """One network call: [N, C, h, w] model outputs (see `headrace.models.denoiser.Denoiser`)."""
        if self.row_cache is None:
            return self.evaluate(rows)
        with self.row_cache.evaluating(rows):
            return self.evaluate(rows)

    @abstractmethod
    def evaluate(self, rows: Rows) -> torch.Tensor:
        """Calls the network with these rows, whatever its blocks do: [N, C, h, w] model outputs."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [N, C, h, w] -> uint8 pixels [N, H, W, channels], on the latents' device.

        Where `pictures` is P > 1: [N*P, H, W, channels], the P of a row together.
        """

    @property
    def max_chunks(self) -> int:
        """Into how many chunks `decoder_chunks` cuts the decoder at most; 1 where it runs whole."""
        return 1

    def decoder_chunks(self, shape: LatentShape, chunks: int) -> Sequence[Chunk]:
        """`decode` for latents of this shape as at most `chunks` parts of about equal time.

        The first takes latents [N, C, h, w], the last returns uint8 pixels; one after another they do exactly what
        `decode` does.
        """
        return [self.decode]

    def check_model(self) -> None:
        """Raises `UnsupportedModelError` where the network needs something that this adapter does not give it."""
        require_settings(self.name, self.network, has=("sample_size",))

    def check_conditioning(self, request: Request) -> None:
        """Raises `RequestError` where the request's prompt or class does not suit this family."""
        if request.prompt is not None or request.negative_prompt is not None:
            raise RequestError(
                "prompt", f"{self.name} is not a text-to-image model, so it takes no prompt", "Leave the prompt out"
            )
        if request.class_label is not None:
            raise RequestError(
                "class_label", f"{self.name} is not class-conditional, so it takes no class_label", "Leave it out"
            )

    def check(self, request: Request) -> None:
        """Raises `RequestError` naming the field where this model cannot serve the request."""
        self.check_conditioning(request)
        if self.default_guidance == 1.0 and not self.guided and (request.guidance_scale or 0.0) > 1.0:
            raise RequestError(
                "guidance_scale",
                f"guidance_scale {request.guidance_scale} was asked and {self.name} has no unconditional branch",
                "Leave guidance_scale out",
            )
        for field, value in (("height", request.height), ("width", request.width)):
            if value is not None and value % self.size_multiple:
                lower = max(self.size_multiple, value // self.size_multiple * self.size_multiple)
                raise RequestError(
                    field,
                    f"{field} {value} is not a multiple of {self.size_multiple}, as {self.name} needs",
                    f"Use {lower} or {lower + self.size_multiple}",
                )

    def size(self, request: Request) -> tuple[int, int]:
        """(height, width) in pixels of the request's picture."""
        height, width = self.default_size
        return request.height or height, request.width or width

    @property
    def guided(self) -> bool:
        """Whether there is an unconditional branch for guidance to move away from."""
        return self.default_guidance != 1.0

    def guidance_scale(self, request: Request) -> float:
        """The scale that the request asks for, or the model's default: what a distilled network is told."""
        return self.default_guidance if request.guidance_scale is None else request.guidance_scale

    def guidance(self, request: Request) -> float:
        """The guidance scale that the rows of this request use; 1 where there is nothing to guide away from.

        As in diffusers, scales of 1 and less mean the conditional branch only.
        """
        return max(self.guidance_scale(request), 1.0) if self.guided else 1.0

    @property
    def dtype(self) -> torch.dtype:
        """The network's dtype."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return next(self.network.parameters()).device


def require_settings(
    name: str,
    network: Any,
    has: Sequence[str] = (),
    lacks: Sequence[str] = (),
    equal: Mapping[str, object] | None = None,
) -> None:
    """Raises `UnsupportedModelError` unless the network's configuration sets all of `has` and nothing of `lacks`.

    `equal` maps settings to the values they must have.
    """
    config = network.config
    wrong = [key for key in has if config.get(key) is None] + [key for key in lacks if config.get(key) is not None]
    wrong += [key for key, value in (equal or {}).items() if config.get(key) != value]
    if wrong:
        raise UnsupportedModelError(
            f"{name}: the {type(network).__name__} has {wrong[0]} = {config.get(wrong[0])!r}, "
            "which this family's adapter cannot serve",
            "Use a folder of the plain family: no inpainting, image or other extra inputs",
        )


def to_pixels(images: torch.Tensor) -> torch.Tensor:
    """Images [N, C, H, W] in [-1, 1] -> uint8 [N, H, W, C], rounded as diffusers' image processor does."""
    unit = (images.float() / 2 + 0.5).clamp(0, 1)
    return (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def require_prompt(request: Request, name: str) -> None:
    """Raises `RequestError` unless the request has a prompt and no class label, as a text-to-image model needs."""
    if request.prompt is None:
        raise RequestError("prompt", f"{name} is a text-to-image model and the request has no prompt", "Give a prompt")
    if request.class_label is not None:
        raise RequestError("class_label", f"{name} takes a prompt, not a class_label", "Leave class_label out")


def require_class(request: Request, name: str, classes: int) -> None:
    """Raises `RequestError` unless the request has a class label below `classes` and no prompt."""
    if request.prompt is not None or request.negative_prompt is not None:
        raise RequestError("prompt", f"{name} takes a class_label, not a prompt", "Leave the prompt out")
    if request.class_label is None:
        raise RequestError(
            "class_label", f"{name} is class-conditional and the request has no class_label", f"Give 0 to {classes - 1}"
        )
    if request.class_label >= classes:
        raise RequestError(
            "class_label",
            f"class_label {request.class_label} is outside the model's {classes} classes",
            f"Give 0 to {classes - 1}",
        )

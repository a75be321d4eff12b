"""What a caller may know of the model that is served, without loading it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class AccelerationCard:
    """One way to make pictures faster that was attached when the engine started.

    Attributes:
        name: that wishes ask for.
        techniques: in words, such as "block cache 40%, guidance until 60% of the rows".
        speedup: times as fast as plain sampling, as measured by the artefact; None where it does not say.
        quality: in `metric`, as measured by the artefact; None where it does not say.
        defaults: fields of a request that it fills where they are left open.
    """

    name: str
    techniques: str
    speedup: float | None = None
    quality: float | None = None
    metric: str | None = None
    defaults: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelCard:
    """A served model.

    Attributes:
        name: as `/v1/models` names it; never a path.
        family: of the pipeline, such as "stable diffusion".
        conditioning: what a request must have: "prompt", "class", or None.
        classes: number of classes; 0 where there are none.
        guided: whether a guidance scale above 1 means something.
        default_guidance, default_steps, default_solver: what is used where a request leaves them open.
        default_size: (height, width), pixels.
        size_multiple: height and width are multiples of this many pixels.
        max_pixels: of one picture, by the memory of a slot and the operator's limit.
        pictures: that one request makes (K of a fused autoencoder).
        solvers: names that requests may give.
        fusion_factors: K's that the network has (FuseBatch); (1,) for an ordinary one.
        fingerprint: of the weights.
        created: seconds since 1970, of the model's folder.
        accelerations: that wishes may ask for.
        default_acceleration: name of the one that is used where a wish names none; None for plain sampling.
        device: in words.
        dtype: of the network's weights.
        class_names: in the order of the classes, where the model's folder names them.
    """

    name: str
    family: str
    conditioning: str | None
    classes: int
    guided: bool
    default_guidance: float
    default_steps: int
    default_solver: str
    default_size: tuple[int, int]
    size_multiple: int
    max_pixels: int
    pictures: int = 1
    solvers: tuple[str, ...] = ()
    fusion_factors: tuple[int, ...] = (1,)
    fingerprint: str = ""
    created: int = 0
    accelerations: tuple[AccelerationCard, ...] = ()
    default_acceleration: str | None = None
    device: str = ""
    dtype: str = ""
    class_names: tuple[str, ...] = ()

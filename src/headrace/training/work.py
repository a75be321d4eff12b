"""What training costs: multiply-accumulate operations of a step, part by part of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# A step is a forward pass and a backward pass of twice its work: gradients of the inputs, and of the weights.
_PASSES = 3


@dataclass(frozen=True)
class Work:
    """What a part of a network (a stage, for instance) has done.

    Attributes:
        macs: of a forward pass, for one picture, attention's products included.
        share: of all pictures, those that are this part's; an expectation, noise levels are drawn.
        steps: in which it learnt.
    """

    macs: int
    share: float
    steps: int

    def training(self, images: int) -> float:
        """MACs of all these steps, of so many pictures each."""
        return _PASSES * self.macs * self.share * self.steps * images


def training_macs(parts: Mapping[str, Work], images: int) -> float:
    """MACs of all parts in steps of so many pictures, without those of the optimiser and of a frozen autoencoder."""
    return sum(part.training(images) for part in parts.values())


def described(parts: Mapping[str, Work], images: int) -> str:
    """A line for people."""
    total = training_macs(parts, images)
    each = [f"{name} {part.training(images) / 1e12:.4g} in {part.steps} steps" for name, part in parts.items()]
    return f"{total / 1e12:.4g} TMAC of training" + (f" ({', '.join(each)})" if len(each) > 1 else "")

"""One encoded picture, and what a set of them is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """One encoded picture. `encoded` is None where its bytes cannot be read; `caption` is a text to show or None.

    `label` is what the set says, whatever that is; `class_number` is what can be used.
    """

    name: str
    encoded: bytes | None
    label: object = None
    caption: str | None = None

    @property
    def class_number(self) -> int | None:
        """The label where it numbers a class (a whole number from 0), else None."""
        whole = isinstance(self.label, int) and not isinstance(self.label, bool)
        return self.label if whole and 0 <= self.label < 2**63 else None  # type: ignore[operator, return-value]


class PictureSource(Protocol):
    """A set of pictures in a fixed order."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes that labels number, where the set has them."""
        ...

    def __len__(self) -> int: ...

    def entries(self) -> Iterator[Entry]:
        """Every picture, in order, each time it is called."""
        ...

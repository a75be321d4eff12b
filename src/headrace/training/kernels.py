"""oneDNN, told to keep the kernels that it makes.

It makes one for every shape that an operation is called with, and forgets the oldest beyond 1,024. A batch that spans
stages gives each decoder another number of pictures every time: training's forward and backward passes then take 20 to
30% longer, for kernels that are made over and over (`docs/results/multistage.md`).
"""

from __future__ import annotations

import os

_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_KERNELS = "8192"


def keep_kernels() -> None:
    """Makes the process keep more kernels, unless the environment says how many.

    Without effect where a convolution ran before: oneDNN reads it once.
    """
    os.environ.setdefault(_CAPACITY, _KERNELS)

"""Perturbation kernels: how noisy data is at a time t of [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.errors import CalibrationError
from headrace.techniques.multistage.schedule import sigma_of

Floats = NDArray[np.float64]

# Karras et al. (2022), Table 1: the noise levels of EDM's steps.
_SIGMA_MIN, _SIGMA_MAX, _RHO = 0.002, 80.0, 7.0


@dataclass(frozen=True)
class Kernel:
    """N(s_t x_0, s_t^2 sigma_t^2); the optimal denoiser needs sigma_t alone.

    Attributes:
        name: as a user writes it.
        sigma: noise for one unit of data, of times [N].
        first: the smallest time that is looked at.
    """

    name: str
    sigma: Callable[[ArrayLike], Floats]
    first: float

    def grid(self, step: float) -> Floats:
        """The first time and others `step` apart, and 1. Raises `CalibrationError` for a step outside (0, 0.5]."""
        if not 0 < step <= 0.5:
            raise CalibrationError(f"times {step:g} apart make no grid of [0, 1]", "Use a step above 0, at most 0.5")
        inner = np.arange(self.first, 1 - step / 2, step)
        return np.append(inner, 1.0)


def _edm_sigma(time: ArrayLike) -> Floats:
    """Equation 5 of Karras et al., of the noise upwards."""
    low, high = _SIGMA_MIN ** (1 / _RHO), _SIGMA_MAX ** (1 / _RHO)
    levels: Floats = (low + np.asarray(time, np.float64) * (high - low)) ** _RHO
    return levels


KERNELS = {
    "vp": Kernel("vp", sigma_of, 1e-3),  # section 5
    "edm": Kernel("edm", _edm_sigma, 0.0),
}


def kernel_of(name: str) -> Kernel:
    """The kernel of a name. Raises `CalibrationError` for one that there is not."""
    if name not in KERNELS:
        raise CalibrationError(f"there is no kernel {name!r}", f"Use one of {', '.join(KERNELS)}")
    return KERNELS[name]

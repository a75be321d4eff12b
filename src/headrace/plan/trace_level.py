"""Reads off a scheduler what every row's latents are made of, and how its data prediction follows from x and output."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.plan.trace_fit import Register, as_register
from headrace.plan.trace_record import Recording, rows_of

Matrix = NDArray[np.float64]

_FAILURES = (ValueError, TypeError, RuntimeError, IndexError, KeyError, AttributeError, NotImplementedError)


def levels(scheduler: Any, begin: int = 0) -> Matrix:
    """[R - begin, 2]: signal and sigma of the rows from `begin` on, x = signal*x0 + sigma*noise; zeros if not known.

    `scheduler` has its timesteps set and took no step yet; its own `add_noise` or `scale_noise` is asked, as
    image-to-image pipelines ask it, with the data and the noise as coordinates.
    """
    data, noise = torch.eye(2, dtype=torch.float64)[:, None, None, None, :].unbind(0)
    timesteps = rows_of(scheduler)
    found = np.zeros((len(timesteps), 2))
    try:
        for row in range(begin, len(timesteps)):
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(row)
            at = timesteps[row : row + 1]
            if hasattr(scheduler, "add_noise"):
                mixed = scheduler.add_noise(data, noise, at)
            else:
                mixed = scheduler.scale_noise(data, at, noise)
            found[row] = mixed.reshape(-1).to(torch.float64).numpy()
            if hasattr(scheduler, "_step_index"):
                scheduler._step_index = None  # flow matching's Heun takes the question for its first step
    except _FAILURES:
        return np.zeros((len(timesteps) - begin, 2))
    return found[begin:] if np.isfinite(found).all() and (found >= 0).all() else np.zeros_like(found[begin:])


def data_prediction(
    recording: Recording, register: Register, name: str, level: Matrix, config: str
) -> tuple[Matrix, Matrix]:
    """data_p and data_q [R], x0 = data_p*x + data_q*out before any clipping; zeros where nothing tells.

    `register` is the plan's and `name` says what it holds; `level` is what `levels` returned.
    """
    if name == "data prediction":
        return register.p, register.q
    if recording.predictions is not None:
        told = as_register("data prediction", recording, recording.predictions, register.clip)
        if told is not None:
            return told.p, told.q
    signal, sigma = level.T
    if not (signal + sigma).all():
        return np.zeros_like(signal), np.zeros_like(signal)
    if name == "noise prediction":
        return _of_noise(register.p, register.q, signal, sigma)
    return _of_output(json.loads(config), signal, sigma)


def _of_noise(p: Matrix, q: Matrix, signal: Matrix, sigma: Matrix) -> tuple[Matrix, Matrix]:
    """From noise = p*x + q*out: x0 = (x - sigma*noise) / signal."""
    with np.errstate(all="ignore"):
        data_p, data_q = (1 - sigma * p) / signal, -sigma * q / signal
    known = np.isfinite(data_p).all()
    return (data_p, data_q) if known else (np.zeros_like(signal), np.zeros_like(signal))


def _of_output(config: dict[str, Any], signal: Matrix, sigma: Matrix) -> tuple[Matrix, Matrix]:
    """From what the network predicts, for solvers that tell no data prediction: PNDM, TCD, flow matching."""
    kind = config.get("prediction_type")
    zeros, ones = np.zeros_like(signal), np.ones_like(signal)
    if kind == "epsilon":
        return _of_noise(zeros, ones, signal, sigma)
    if kind == "sample":
        return zeros, ones
    if kind == "v_prediction":
        return signal, -sigma  # Salimans and Ho 2022, with signal^2 + sigma^2 = 1
    if kind is None and np.allclose(signal + sigma, 1.0, atol=1e-6):
        return ones, -sigma  # flow matching: x = (1 - sigma)*x0 + sigma*noise, out = noise - x0
    return zeros, zeros

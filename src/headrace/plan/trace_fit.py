"""Reads a plan's coefficients off a recording: which register, how much history, which weights.

Each row's next sample must be a combination of the row's sample, the registers of this row and of at most H-1 rows
before, the raw output (only beside a clipped register) and the row's last noise draw. The smallest H that leaves no
residual wins; among registers with that H, the data prediction, unless another one rounds far less. Probes take part in
the residual, so a step that is not linear in the data is found out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import NotLinearError, SolverError
from headrace.plan.trace_record import PROBES, Recording

Matrix = NDArray[np.float64]

MAX_HISTORY = 16  # PNDM with its Runge-Kutta start reaches back 13 rows
TOLERANCE = 1e-9  # relative residual of one row; traced solvers leave 1e-15 to 1e-12, others 1e-5 and more
_ROWS_AT_ONCE = 64
_WORTH_A_PREVIEW = 8.0  # how much more rounding a data-prediction register may cost than the best candidate


@dataclass
class Register:
    """A candidate for the history term: h = p*x + q*out in every row. `values` [R, N]: after clipping, if any."""

    name: str
    p: Matrix
    q: Matrix
    values: Matrix
    clip: Matrix
    clipped: bool = False


@dataclass
class Fit:
    """Solver columns of a plan; shapes as in `Plan`. `amplification`: worst growth of rounding errors in one row."""

    register: Register
    a: Matrix
    b: Matrix
    c: Matrix
    noise: Matrix
    draws: NDArray[np.int64]
    residual: float
    amplification: float


def fit(recording: Recording, solver: str) -> Fit:
    """The exact fit with the smallest history. Raises `NotLinearError` when there is none."""
    registers = _candidates(recording, solver)
    noise, draws, targets = _split_noise(recording)
    best = np.inf
    for history in range(1, min(MAX_HISTORY, len(recording.outputs)) + 1):
        fits = [_solve(recording, register, history, targets) for register in registers]
        best = min([best, *(f.residual for f in fits)])
        exact = [f for f in fits if f.residual <= TOLERANCE]
        if exact:
            steadiest = min(f.amplification for f in exact)
            chosen = next(f for f in exact if f.amplification <= _WORTH_A_PREVIEW * steadiest)
            chosen.noise, chosen.draws = noise, draws
            _check_whole_trajectory(recording, chosen, solver)
            return chosen
    raise NotLinearError(
        f"{solver}: its step is not linear in the sample, the last {MAX_HISTORY} outputs and this row's noise "
        f"(relative residual {best:.1e})",
        "Choose another solver or option",
    )


def _candidates(recording: Recording, solver: str) -> list[Register]:
    rows = len(recording.outputs)
    unclipped = np.tile([-np.inf, np.inf], (rows, 1))
    if any(recording.clamps):
        return [_clipped_register(recording, solver)]
    found = []
    if recording.predictions is not None:
        found.append(as_register("data prediction", recording, recording.predictions, unclipped))
    for name, values in recording.memory.items():
        found.append(as_register(name, recording, values, unclipped))
    found.append(Register("raw output", np.zeros(rows), np.ones(rows), recording.outputs, unclipped))
    return [register for register in found if register is not None]


def _clipped_register(recording: Recording, solver: str) -> Register:
    if any(len(clamps) != 1 for clamps in recording.clamps):
        raise NotLinearError(f"{solver} clips more or less than one value a row", "Switch its clipping option off")
    clamps = [row[0] for row in recording.clamps]
    bounds = np.array([[clamp.low, clamp.high] for clamp in clamps])
    given = np.stack([clamp.given for clamp in clamps])
    if not np.isfinite(given).all():
        row = int(np.argmin(np.isfinite(given).all(axis=1)))
        raise SolverError(f"{solver} divides by zero in row {row}, before it clips", "Change the prediction type")
    register = as_register("data prediction", recording, given, bounds)
    if register is None:
        raise NotLinearError(
            f"{solver} clips something else than its data prediction", "Switch its clipping option off"
        )
    register.values = np.stack([clamp.result for clamp in clamps])
    register.clipped = True
    return register


def as_register(name: str, recording: Recording, values: Matrix, clip: Matrix) -> Register | None:
    """The register with these values, or None where some row's value is not p*x + q*out."""
    x, out = recording.samples[:-1], recording.outputs
    rows = np.arange(len(out))
    if not np.isfinite(values).all():
        return None
    q = values[rows, recording.output_axes]  # x holds nothing of this row's output yet
    rest = values - q[:, None] * out
    coordinates = slice(0, x.shape[1] - PROBES)
    p = (rest[:, coordinates] * x[:, coordinates]).sum(axis=1) / (x[:, coordinates] ** 2).sum(axis=1)
    error = np.abs(rest - p[:, None] * x).max(axis=1)
    if (error > TOLERANCE * np.maximum(np.abs(values).max(axis=1), 1e-300)).any():
        return None
    return Register(name, _without_dust(p, 1.0), _without_dust(q, 1.0), values, clip)


def _split_noise(recording: Recording) -> tuple[Matrix, NDArray[np.int64], Matrix]:
    """Noise weights, draw counts, and the next samples without that noise."""
    targets = recording.samples[1:].copy()
    noise = np.zeros(len(targets))
    draws = np.array([len(row) for row in recording.draws], dtype=np.int64)
    for row, drawn in enumerate(recording.draws):
        if drawn:
            axis = int(np.argmax(drawn[-1][:-PROBES]))
            noise[row] = targets[row, axis]
            targets[row] -= noise[row] * drawn[-1]
    return noise, draws, targets


def _solve(recording: Recording, register: Register, history: int, targets: Matrix) -> Fit:
    rows = len(targets)
    weights = np.zeros((rows, 2 + history))
    residuals, growth = np.zeros(rows), np.zeros(rows)
    for start in range(0, rows, _ROWS_AT_ONCE):
        chunk = np.arange(start, min(start + _ROWS_AT_ONCE, rows))
        terms = _terms(recording, register, history, chunk)
        weights[chunk] = _least_squares(terms, targets[chunk])
        left = targets[chunk] - np.einsum("rnm,rm->rn", terms, weights[chunk])
        residuals[chunk] = _size(left) / np.maximum(_size(targets[chunk]), 1e-300)
        parts = np.abs(weights[chunk]) * np.sqrt((terms[:, -PROBES:] ** 2).mean(axis=1))
        growth[chunk] = parts.sum(axis=1) / np.maximum(np.sqrt((targets[chunk][:, -PROBES:] ** 2).mean(axis=1)), 1e-300)
    residual = float(residuals.max()) if np.isfinite(residuals).all() else np.inf
    return Fit(
        register,
        weights[:, 0],
        weights[:, 2:],
        weights[:, 1],
        np.zeros(rows),
        np.zeros(rows, np.int64),
        residual,
        float(growth.max()),
    )


def _terms(recording: Recording, register: Register, history: int, chunk: NDArray[np.int64]) -> Matrix:
    """[rows, N, 2+H]: sample, raw output (zero unless clipped), registers of 0..H-1 rows before (zero at the start)."""
    x = recording.samples[chunk]
    terms = np.zeros((*x.shape, 2 + history))
    terms[:, :, 0] = x
    if register.clipped:
        terms[:, :, 1] = recording.outputs[chunk]
    for age in range(history):
        known = chunk >= age
        terms[known, :, 2 + age] = register.values[chunk[known] - age]
    return terms


def _least_squares(terms: Matrix, targets: Matrix) -> Matrix:
    """Minimum-norm weights a row, refined once, with contributions below rounding set to zero."""
    sizes = np.linalg.norm(terms, axis=1)
    scaled = terms / np.where(sizes > 0, sizes, 1.0)[:, None, :]
    if not np.isfinite(scaled).all():
        return np.full((len(terms), terms.shape[2]), np.nan)
    orthonormal, triangular = np.linalg.qr(scaled)
    inverse = np.linalg.pinv(triangular, rcond=1e-13)
    weights = np.zeros((len(terms), terms.shape[2]))
    left = targets
    for _ in range(2):
        weights = weights + np.einsum("rij,rj->ri", inverse, np.einsum("rnm,rn->rm", orthonormal, left))
        left = targets - np.einsum("rnm,rm->rn", scaled, weights)
    weights = _without_dust(weights, np.linalg.norm(targets, axis=1)[:, None])
    result: Matrix = weights / np.where(sizes > 0, sizes, 1.0)
    return result


def _without_dust(values: Matrix, scale: Matrix | float) -> Matrix:
    return np.where(np.abs(values) > 1e-11 * scale, values, 0.0)


def _size(vectors: Matrix) -> Matrix:
    largest: Matrix = np.abs(vectors).max(axis=1)
    return largest


def _check_whole_trajectory(recording: Recording, found: Fit, solver: str) -> None:
    """Replay every row from the first sample on, clipping for real on the probes, and compare the end."""
    x = recording.samples[0]
    past: list[Matrix] = []
    register = found.register
    for row, out in enumerate(recording.outputs):
        value = register.p[row] * x + register.q[row] * out
        if register.clipped:
            value[:-PROBES] = register.values[row][:-PROBES]
            value[-PROBES:] = np.clip(value[-PROBES:], *register.clip[row])
        past = [value, *past[: found.b.shape[1] - 1]]
        x = found.a[row] * x + found.c[row] * out + sum(w * h for w, h in zip(found.b[row], past, strict=False))
        if recording.draws[row]:
            x = x + found.noise[row] * recording.draws[row][-1]
    error = float(np.abs(x - recording.samples[-1]).max() / max(np.abs(recording.samples[-1]).max(), 1e-300))
    if not error <= 1e3 * TOLERANCE:
        raise NotLinearError(
            f"{solver}: its plan drifts from the solver (relative difference {error:.1e})", "Choose another solver"
        )

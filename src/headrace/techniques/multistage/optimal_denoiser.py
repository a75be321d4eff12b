"""The denoiser that a perfectly trained network would be: the closed form of Proposition 1, equation (21).

For data y_1 ... y_N and x_t = s_t x_0 + s_t sigma_t eps, it depends on z = x_t / s_t = x_0 + sigma_t eps and sigma_t
alone, whatever the kernel: the data prediction is the mean of the y_i under weights exp(-|z - y_i|^2 / (2 sigma^2)),
and the noise prediction is (z - that) / sigma.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from headrace.errors import CalibrationError

_SMALLEST_WEIGHT = 40.0  # a weight below exp(-40) of the largest changes no digit of float32
_TOLERANCE = 1e-2  # of a log-weight, against a bound that real rounding stays far below
_ROUNDING = 8 * torch.finfo(torch.float32).eps  # of a product of two vectors, of the product of their lengths
_GATHERED = 1 << 22  # numbers that are subtracted in float64 at once


class OptimalDenoiser:
    """The denoiser of least loss for a data set, computed block by block by matrix products.

    Distances come from products z . y in float32. Where sigma is so small that their rounding matters, the few images
    that are near enough to count are subtracted in float64 instead; so log-weights are right for any sigma.
    """

    def __init__(
        self,
        images: Tensor,
        span: tuple[float, float] = (0.0, 1.0),
        block: int = 4096,
        sums: torch.dtype = torch.float32,
    ) -> None:
        """`images` [N, ...]: uint8, which are spread over `span`, or floats, which are taken as they are.

        `block` images are looked at together; `sums` is the type that weights and weighted images are added in.
        Raises `CalibrationError` for no images or a block of none.
        """
        if len(images) == 0 or block < 1:
            raise CalibrationError(f"{len(images)} images in blocks of {block} have no denoiser", "Give at least one")
        self._images, self._span, self._block, self._sums = images.flatten(1), span, block, sums
        self.shape = images.shape[1:]
        self.mean = self._mean()
        self._half_squares = torch.cat([(block.square().sum(1) / 2) for block in self._centred()])

    def __len__(self) -> int:
        return len(self._images)

    def clean(self, rows: Tensor) -> Tensor:
        """Images [n, D] by number [n], in float32."""
        return self._floats(self._images[rows])

    def noise_prediction(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """epsilon* of equation (21), [B, D], from z = x_t / s_t [B, D] and sigma [B], both float32 or float64."""
        return (noisy - self.data_prediction(noisy, sigma)) / sigma[:, None].to(noisy.dtype)

    def data_prediction(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The expected clean image [B, D] in the type of `noisy`, from z = x_t / s_t [B, D] and sigma [B].

        Raises `CalibrationError` for a sigma that is not above 0 or not finite.
        """
        if not bool((sigma > 0).all()) or not bool(torch.isfinite(sigma).all()):
            raise CalibrationError("sigma is not above 0 everywhere", "Use noise levels above 0")
        centred = noisy - self.mean.to(noisy.dtype)
        longest = float(self._half_squares.max() * 2) ** 0.5
        posterior = _Posterior(centred, sigma, longest, self._sums)
        for images, half_squares in zip(self._centred(), self._half_squares.split(self._block), strict=True):
            posterior.add(images, half_squares)
        return (posterior.mean() + self.mean).to(noisy.dtype)

    def _mean(self) -> Tensor:
        total = torch.zeros(self._images.shape[1], dtype=torch.float64)
        for block in self._images.split(self._block):
            total += self._floats(block).sum(0, dtype=torch.float64)
        return (total / len(self)).to(torch.float32)

    def _floats(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:
            return images.to(torch.float32)
        low, high = self._span
        return images.to(torch.float32).mul_((high - low) / 255).add_(low)

    def _centred(self) -> Iterator[Tensor]:
        """Blocks of images less their mean: shorter vectors, so smaller rounding."""
        for block in self._images.split(self._block):
            yield self._floats(block) - self.mean


class _Posterior:
    """Mean of the images under their weights, of B rows at once, brought up to date with every block.

    The largest log-weight so far is kept beside the sums (log-sum-exp), so that no weight overflows and not all vanish.
    """

    def __init__(self, noisy: Tensor, sigma: Tensor, longest: float, sums: torch.dtype) -> None:
        self._exact = noisy.to(torch.float64)
        self._noisy = noisy.to(torch.float32)
        self._variance = sigma.to(torch.float64)[:, None] ** 2
        lengths = self._exact.norm(dim=1, keepdim=True)
        self._rounding = _ROUNDING * longest * (lengths + longest) / self._variance
        self._rough = self._rounding[:, 0] > _TOLERANCE
        self._largest = torch.full((len(noisy), 1), -torch.inf, dtype=torch.float64)
        self._weight = torch.zeros(len(noisy), 1, dtype=sums)
        self._weighted = torch.zeros(noisy.shape, dtype=sums)

    def add(self, images: Tensor, half_squares: Tensor) -> None:
        """Images [n, D] and halves of their squared lengths [n], float32."""
        logs = self._log_weights(images, half_squares)
        largest = torch.maximum(self._largest, logs.amax(1, keepdim=True))
        kept = torch.exp(self._largest - largest).to(self._weight.dtype)
        weights = torch.exp_((logs - largest).to(torch.float32))
        self._weight = kept * self._weight + weights.sum(1, keepdim=True, dtype=self._weight.dtype)
        self._weighted *= kept
        counting = (weights > 0).any(0)
        if counting.float().mean() < 0.5:  # at little noise hardly an image counts
            weights, images = weights[:, counting], images[counting]
        self._weighted += weights @ images
        self._largest = largest

    def mean(self) -> Tensor:
        return self._weighted / self._weight

    def _log_weights(self, images: Tensor, half_squares: Tensor) -> Tensor:
        """-|z - y|^2 / (2 sigma^2) in float64 [B, n] but for a constant of the row; minus infinity where it is far."""
        products = (self._noisy @ images.T).sub_(half_squares)
        logs = products.to(torch.float64).div_(self._variance)
        if self._rough.any():
            self._refine(logs, images)
        return logs

    def _refine(self, logs: Tensor, images: Tensor) -> None:
        """Replaces the log-weights of rows whose rounding matters."""
        half = self._exact.square().sum(1, keepdim=True) / 2 / self._variance
        best = torch.maximum(self._largest, logs.amax(1, keepdim=True))
        near = (logs >= best - _SMALLEST_WEIGHT - 2 * self._rounding) & self._rough[:, None]
        logs[self._rough] = -torch.inf
        rows, columns = near.nonzero(as_tuple=True)
        together = max(1, _GATHERED // images.shape[1])
        for row, column in zip(rows.split(together), columns.split(together), strict=True):
            gaps = (self._exact[row] - images[column].to(torch.float64)).square_().sum(1)
            logs[row, column] = half[row, 0] - gaps / 2 / self._variance[row, 0]

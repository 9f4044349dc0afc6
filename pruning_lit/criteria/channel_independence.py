"""Channel independence: what the nuclear norm of a feature map loses when one channel is blanked.

For one image, write a layer's feature map as a matrix ``A`` with one row per channel and one column per pixel. The
score of channel ``i`` is ``||A||_* - ||A with row i set to zero||_*`` (``||.||_*``: the sum of the singular values).
The released code takes that literally, with one decomposition per channel. Here one eigendecomposition per image
serves all its channels, because

    score_i = -1/pi * integral over s from 0 to infinity of ln g_i(s) ds,      g_i(s) = s^2 [(A A^T + s^2 I)^-1]_ii.

Sources: Sui et al. 2021, "CHIP: CHannel Independence-based Pruning for Compact Neural Networks" (arXiv 2110.13981),
algorithm 1, for the score; the integral follows from the matrix determinant and from
``integral of ln((x^2 + s^2) / (y^2 + s^2)) ds = pi (x - y)``.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pruning_lit.channels import ChannelGroup
from pruning_lit.criteria.base import Criterion, Scoring, require_positive
from pruning_lit.criteria.gather import mean_scores, require_feature_maps

WORKING_SET = 16 * 2**20  # bytes of float64 that a stack of images may take; larger ones leave the cache
SMALLEST_SIGMA = 1e-6  # of the largest; weaker directions are at the noise of a Gram matrix and need no nodes
SKEWED = 1e-4  # eigenvectors of smaller shares of the largest eigenvalue are not orthogonal enough to the others
CANCELLED = 1e-6  # a share of the null space below this is not computed as 1 - (something near 1)


class Spectrum(NamedTuple):
    """Singular spectra of a stack of matrices; eigenvalues are shares of the largest one of their image.

    Attributes:
        eigenvalues: squared singular values, shape ``(N, r)``, from 0 to 1.
        weights: squared entries of the left singular vectors, shape ``(N, C, r)``.
        remainder: what the weights of a row lack to 1, its share of the left null space, shape ``(N, C)``.
        sigma: the largest singular value, shape ``(N,)``; 1 for a blank image.
    """

    eigenvalues: Tensor
    weights: Tensor
    remainder: Tensor
    sigma: Tensor


@torch.no_grad()
def channel_independence(
    maps: Tensor, *, step: float = 0.3, padding: float = 1e4, decimals: int | None = None
) -> Tensor:
    """Fall of the nuclear norm of each image's feature map when one channel is blanked.

    Everything is computed in float64 whatever comes in, also under autocast, and without gradients. The maps are worked
    off in small stacks of images, so the memory needed hardly depends on their number. The error is below 1e-12 of
    an image's nuclear norm for channels of like size, exact copies among them or not, and below 1e-10 for sizes over
    five decades. Directions weaker than
    ``1.5e-8 * sqrt(max(C, H * W))`` of the strongest are below the noise of a Gram matrix and count as absent.
    ``step=0.5, padding=1e3`` needs 40 % fewer nodes and errs by up to 5e-9.

    Args:
        maps: feature maps after normalisation and activation, shape ``(N, C, H, W)``, any floating dtype.
        step: distance of the nodes of the trapezoidal rule in ln s; the error falls like ``exp(-pi^2 / step)``.
        padding: the nodes reach by this factor beyond the largest and the smallest singular value; tails in closed
            form do the rest.
        decimals: round the maps to so many decimals in float32 first, as the released code does with 4; ``None``: do
            not round.

    Returns:
        One score per image and channel, shape ``(N, C)``, float64, in the unit of the maps, between 0 and the norm of
        the channel's map; larger means more worth keeping.

    Raises:
        ValueError: the maps are not a floating tensor with 4 axes, an image holds NaN or infinity, or a setting is
            out of range.
    """
    if maps.ndim != 4 or not maps.is_floating_point():
        raise ValueError(f"expected floating maps (N, C, H, W), got {maps.dtype} of shape {tuple(maps.shape)}")
    if not (step > 0 and padding > 1):
        raise ValueError(f"expected step > 0 and padding > 1, got step={step} and padding={padding}")
    if maps.numel() == 0:
        return maps.new_zeros(maps.shape[:2], dtype=torch.float64)
    size = images_per_stack(maps, step, padding)
    with torch.autocast(maps.device.type, enabled=False):
        return torch.cat(
            [
                stack_scores(as_matrices(maps[first : first + size], decimals), first, step, padding)
                for first in range(0, len(maps), size)
            ]
        )


def images_per_stack(maps: Tensor, step: float, padding: float) -> int:
    """Number of images whose float64 intermediates take about ``WORKING_SET`` bytes in all, at least 1."""
    channels, pixels = maps.shape[1], maps.shape[2] * maps.shape[3]
    rank = min(channels, pixels)
    num_nodes = math.ceil(math.log(padding**2 / SMALLEST_SIGMA) / step)
    floats = 2 * channels * pixels + 2 * rank * (rank + channels) + num_nodes * (2 * channels + rank)
    return max(1, WORKING_SET // (8 * floats))


def as_matrices(maps: Tensor, decimals: int | None) -> Tensor:
    """Maps ``(N, C, H, W)`` as float64 matrices ``(N, C, H * W)``, rounded in float32 to ``decimals`` if given."""
    if decimals is not None:
        maps = maps.float().round(decimals=decimals)
    return maps.to(torch.float64, memory_format=torch.contiguous_format).flatten(2)


def stack_scores(matrices: Tensor, first: int, step: float, padding: float) -> Tensor:
    """Scores ``(N, C)`` of float64 matrices ``(N, C, P)``, images ``first``, ``first + 1``, ... of the batch."""
    tall = matrices.shape[1] > matrices.shape[2]
    gram = matrices.mT @ matrices if tall else matrices @ matrices.mT
    require_finite(gram, first)
    squared_norms = matrices.square().sum(dim=2) if tall else gram.diagonal(dim1=1, dim2=2)
    spectrum = left_spectrum(matrices, gram)
    scores = integrate(spectrum, *nodes(spectrum, step, padding), step) * spectrum.sigma[:, None] / math.pi
    return scores.clamp(min=0.0).minimum(squared_norms.sqrt())  # the exact bounds; they make a blank channel's score 0


def require_finite(gram: Tensor, first: int) -> None:
    """Refuse Gram matrices ``(N, r, r)`` of maps that are not finite: the trace, a sum of all squares, shows them."""
    broken = ~gram.diagonal(dim1=1, dim2=2).sum(dim=1).isfinite()
    if broken.any():
        raise ValueError(
            f"image {first + int(broken.nonzero()[0])} has values in its feature map that are NaN, infinite or too "
            "large to square; channel independence needs finite maps, so look for diverged weights or inputs"
        )


def left_spectrum(matrices: Tensor, gram: Tensor) -> Spectrum:
    """Spectrum of float64 matrices ``(N, C, P)`` from the smaller one of their two Gram matrices, ``(N, r, r)``."""
    raw, vectors = torch.linalg.eigh(gram)
    largest = raw[:, -1].clamp(min=0.0)
    noise = max(matrices.shape[1:]) * torch.finfo(torch.float64).eps * largest
    raw = raw.where(raw > noise[:, None], 0.0)
    largest = largest.where(largest > 0, 1.0)  # a blank image
    if matrices.shape[1] > matrices.shape[2]:
        projected = matrices @ vectors
        raw = projected.square().sum(dim=1).where(raw > 0, 0.0)  # the small ones more exactly than from the Gram matrix
        left = projected * raw.where(raw > 0, math.inf).rsqrt()[:, None, :]
        if (raw.where(raw > 0, math.inf) < SKEWED * largest[:, None]).any():
            left = orthonormal(left) * (raw > 0)[:, None, :]
        weights, remainder = left.square(), null_share(left)
    else:
        weights, remainder = vectors.square(), raw.new_zeros(matrices.shape[:2])
    return Spectrum(raw / largest[:, None], weights, remainder, largest.sqrt())


def orthonormal(left: Tensor) -> Tensor:
    """Left singular vectors, shape ``(N, C, r)``, made orthogonal to each other, those of larger values first.

    An eigenvector of a Gram matrix holds parts of the others, the more the smaller its value; what a row lacks to 1
    would be lost in them.
    """
    return torch.linalg.qr(left.flip(2)).Q.flip(2)


def null_share(left: Tensor) -> Tensor:
    """Squared length ``(N, C)`` of each unit vector outside the span of the columns of ``left``, ``(N, C, r)``.

    In general this is 1 minus the row's squared length. That difference is lost in round-off for a row that the others
    cannot express at all, for example the only channel active in some pixel, and the score feels its square root: an
    error of 1e-8. For such rows it is the length of the residual vector, where nothing cancels.
    """
    share = (1.0 - left.square().sum(dim=2)).clamp_(min=0.0)
    cancelled = share < CANCELLED
    for image in cancelled.any(dim=1).nonzero().flatten().tolist():
        rows = cancelled[image].nonzero().flatten()
        residual = left[image][rows] @ left[image].mT
        residual[torch.arange(len(rows), device=rows.device), rows] -= 1.0
        share[image, rows] = residual.square().sum(dim=1)
    return share


def nodes(spectrum: Spectrum, step: float, padding: float) -> tuple[Tensor, Tensor]:
    """Nodes s, evenly spaced in ln s, split at s = 1, for the spectra of a whole stack.

    They begin below the smallest singular value, and below the s at which ``g = remainder + s^2 sum w / eigenvalue``
    turns from one summand to the other.
    """
    eigenvalues, remainder = spectrum.eigenvalues, spectrum.remainder
    smallest = eigenvalues.where(eigenvalues > 0, 1.0).amin()
    if bool((remainder > 0).any()):
        slope = (spectrum.weights / eigenvalues.where(eigenvalues > 0, math.inf)[:, None, :]).sum(dim=2)
        turns = (remainder / slope).where((remainder > 0) & (slope > 0), 1.0)
        smallest = smallest.minimum(turns.amin())
    begin = smallest.sqrt().clamp(min=SMALLEST_SIGMA).item()
    first, last = math.log(begin / padding), math.log(padding)
    count = math.ceil((last - first) / step) + 1
    s = (first + step * torch.arange(count, dtype=torch.float64, device=eigenvalues.device)).exp()
    return s[s < 1], s[s >= 1]


def integrate(spectrum: Spectrum, low: Tensor, high: Tensor, step: float) -> Tensor:
    """Integral of ``-ln g`` over s, ``(N, C)``: the trapezoidal rule in ln s on the nodes, both tails in closed form.

    Channels are taken in blocks when those of a single image would outgrow ``WORKING_SET``.
    """
    block = max(1, WORKING_SET // (16 * len(spectrum.weights) * (len(low) + len(high))))
    parts = [
        integrate_block(spectrum._replace(weights=weights, remainder=remainder), low, high, step)
        for weights, remainder in zip(
            spectrum.weights.split(block, dim=1), spectrum.remainder.split(block, dim=1), strict=True
        )
    ]
    return torch.cat(parts, dim=1)


def integrate_block(spectrum: Spectrum, low: Tensor, high: Tensor, step: float) -> Tensor:
    """``integrate`` for a block of channels.

    Two forms of ``ln g`` that are equal on paper, each where it cancels nothing: ``g`` itself below s = 1, where it may
    vanish; ``1 - g``, at most 1/2, from there on, where that vanishes.
    """
    eigenvalues, weights = spectrum.eigenvalues[:, :, None], spectrum.weights
    g = torch.baddbmm(spectrum.remainder[:, :, None], weights, low**2 / (eigenvalues + low**2))
    p = weights @ (eigenvalues / (eigenvalues + high**2))
    s, q = low[0], math.exp(-step)
    slope = (weights @ (2 * s**2 * eigenvalues / (eigenvalues + s**2) ** 2)).squeeze(2) / g[:, :, 0]  # d ln g / d ln s
    below, above = g.log_().neg_(), p.neg_().log1p_().neg_()
    upper_tail = high[-1] * above[:, :, -1] * q / (1 - q)  # -ln g falls like 1 / s^2
    lower_tail = s * (below[:, :, 0] * q / (1 - q) + slope * step * q / (1 - q) ** 2)  # ln g is straight in ln s
    return step * (below @ low + above @ high + upper_tail + lower_tail)


class ChannelIndependence(Criterion):
    """CHIP: mean channel independence of a layer's feature map over seeded training images.

    A tied group has one map per block output. Removing a channel of the stream blanks a row in every one of them, and
    their scores are added, as the method already adds single-channel changes for a joint one; ``combine: normalised``
    divides each map's scores by their sum first, so that large maps do not dominate.

    Args:
        num_images: images looked at over all ranks; fewer where the data set has fewer.
        batch_size: images per forward pass.
        augment: crop and mirror them as in training, as published.
        seed: of their choice and augmentation.
        combine: ``sum`` or ``normalised``, for groups with several maps.
        decimals: round maps as the released code does with 4; None: not.

    Source: Sui et al. 2021, "CHIP: CHannel Independence-based Pruning for Compact Neural Networks", algorithm 1.
    """

    def __init__(
        self,
        num_images: int = 640,
        batch_size: int = 128,
        augment: bool = True,
        seed: int = 0,
        combine: Literal["sum", "normalised"] = "sum",
        decimals: int | None = None,
    ) -> None:
        if combine not in ("sum", "normalised"):
            raise ValueError(f"criterion.combine must be 'sum' or 'normalised', got {combine!r}")
        require_positive(num_images=num_images, batch_size=batch_size)
        self.num_images, self.batch_size, self.augment, self.seed = num_images, batch_size, augment, seed
        self.combine, self.decimals = combine, decimals

    def check(self, groups: list[ChannelGroup]) -> None:
        """Every group needs a feature map."""
        require_feature_maps(groups)

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Channel independence of the maps of each channel: means over the images, added over the maps."""
        batches = scoring.view_inputs(self.num_images, self.seed, self.augment, self.batch_size)
        means = mean_scores(
            scoring.view, scoring.groups, batches, lambda maps: channel_independence(maps, decimals=self.decimals)
        )
        return {group.name: self._of_group(group, means) for group in scoring.groups}

    def _of_group(self, group: ChannelGroup, means: dict[int, Tensor]) -> Tensor:
        total = torch.zeros(group.size, dtype=torch.float64)
        for feature_map in group.feature_maps:
            scores = means[feature_map.operation][feature_map.positions].sum(1)
            total += scores / scores.sum() if self.combine == "normalised" and scores.sum() > 0 else scores
        return total

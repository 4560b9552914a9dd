"""Logits and losses for landmarks, as pure functions.

The margins are computed in float32 or better, and so are the logits that come out, whatever the precision of the
cosines: in half precision 1 - 1e-7 is 1, where the slope of an angle by its cosine has no bound. A cosine beyond
-1 or 1, as rounding makes them, counts as -1 or 1, and its gradient is finite.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from waymark.errors import ModelError

TINY = 1e-30  # below the square of any sine of a float32 cosine but those of -1 and 1
Margin = float | Tensor  # one for all, or (C,) one for each class


def arcface_logits(cosine: Tensor, target: Tensor, *, scale: float, margin_rad: Margin) -> Tensor:
    """Add a margin to the angle of the true class.

    Its logit is s cos(theta + m), the others' s cos(theta) (Deng et al. 2019, ArcFace, equation 3). Beyond pi - m,
    where cos(theta + m) would rise again, it is s (cos(theta) - m sin(m)), as in the authors' code.

    Args:
        cosine: `(B, C)` cosines of features and classes.
        target: `(B,)` class of each record.
        scale: s.
        margin_rad: m in radians from 0 up to pi, one for all or `(C,)` for each class.

    Returns:
        `(B, C)` logits, float32 or better.

    Raises:
        ModelError: a target is no class.

    >>> cosine = torch.tensor([[0.0, 0.5], [-1.0, 0.5]])
    >>> arcface_logits(cosine, torch.tensor([0, 0]), scale=10.0, margin_rad=math.pi / 6)
    tensor([[ -5.0000,   5.0000],
            [-12.6180,   5.0000]])
    """

    def moved(own: Tensor, margin: Tensor) -> Tensor:
        added = own * margin.cos() - _sine(own) * margin.sin()  # cos(theta + m)
        return torch.where(own >= -margin.cos(), added, own - margin * margin.sin())

    return _with_margin(cosine, target, scale, margin_rad, moved)


def cosface_logits(cosine: Tensor, target: Tensor, *, scale: float, margin: Margin) -> Tensor:
    """Take a margin from the cosine of the true class: s (cos(theta) - m) (Wang et al. 2018, CosFace, equation 4).

    Args:
        cosine: `(B, C)` cosines of features and classes.
        target: `(B,)` class of each record.
        scale: s.
        margin: m, one for all or `(C,)` for each class.

    Returns:
        `(B, C)` logits, float32 or better.

    Raises:
        ModelError: a target is no class.

    >>> cosface_logits(torch.tensor([[0.5, 0.25]]), torch.tensor([1]), scale=8.0, margin=0.25)
    tensor([[4., 0.]])
    """
    return _with_margin(cosine, target, scale, margin, lambda own, by: own - by)


def sphereface_logits(cosine: Tensor, target: Tensor, *, scale: float, margin: Margin) -> Tensor:
    """Multiply the angle of the true class.

    Its logit is s psi(theta), psi(theta) = (-1)^k cos(m theta) - 2k for theta in [k pi / m, (k + 1) pi / m], which
    falls from 1 without a jump (Liu et al. 2017, SphereFace, equation 7). There m is a whole number and s the length
    of the features, whose place a constant takes as in the authors' SphereFace Revived (2022).

    Args:
        cosine: `(B, C)` cosines of features and classes.
        target: `(B,)` class of each record.
        scale: s.
        margin: m, at least 1, which changes nothing; one for all or `(C,)` for each class.

    Returns:
        `(B, C)` logits, float32 or better.

    Raises:
        ModelError: a target is no class.

    >>> cosine = torch.tensor([[0.5, 0.0], [-1.0, 0.0]])
    >>> sphereface_logits(cosine, torch.tensor([0, 0]), scale=2.0, margin=2.0)
    tensor([[-1.0000,  0.0000],
            [-6.0000,  0.0000]])
    """

    def moved(own: Tensor, margin: Tensor) -> Tensor:
        angle = margin * torch.atan2(_sine(own), own)
        turns = (angle.detach() / math.pi).floor()  # k
        return (1 - 2 * (turns % 2)) * angle.cos() - 2 * turns

    return _with_margin(cosine, target, scale, margin, moved)


def _sine(cosine: Tensor) -> Tensor:
    return ((1 - cosine) * (1 + cosine)).clamp(min=TINY).sqrt()  # clamp: at 0 the slope of a root has no bound


def _with_margin(
    cosine: Tensor, target: Tensor, scale: float, margin: Margin, moved: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Scale the cosines, that of the true class after its margin: the only column that costs more than a product."""
    if target.shape != cosine.shape[:1]:
        raise ModelError(f"{len(cosine)} records have targets of shape {tuple(target.shape)}; give one for each")
    classes = cosine.shape[1]
    if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < classes:
        wrong = int(target[(target < 0) | (target >= classes)][0])
        raise ModelError(f"target {wrong} is none of {classes} classes; leave out the records without one")
    cosine = cosine.to(torch.promote_types(cosine.dtype, torch.float32)).clamp(-1, 1)
    column = target[:, None]
    own = cosine.gather(1, column)  # (B, 1)
    by = torch.as_tensor(margin, dtype=own.dtype, device=own.device)
    return scale * cosine.scatter(1, column, moved(own, by if by.ndim == 0 else by[column]))


def dynamic_margins(counts: Tensor, *, power: float = -0.25, low: float = 0.05, high: float = 0.5) -> Tensor:
    """Assign rare classes wide margins: a n^power + b, with a and b such that they reach from low to high.

    Ha et al. 2020, Google Landmark Recognition 2020 Competition Third Place Solution, "dynamic margins".
    A class without any image counts as one with a single image; classes that are all alike get the middle.

    Args:
        counts: `(C,)` training images of each class.
        power: of the count, below 0.
        low: margin of the most frequent class.
        high: margin of the rarest class.

    Returns:
        `(C,)` margins, float32.

    >>> dynamic_margins(torch.tensor([1, 16, 10_000]))
    tensor([0.5000, 0.2500, 0.0500])
    """
    rarity = counts.to(torch.float64).clamp(min=1) ** power
    span = rarity.max() - rarity.min()
    share = (rarity - rarity.min()) / span if span > 0 else torch.full_like(rarity, 0.5)
    return (low + (high - low) * share).float()


def adacos_scale(classes: int) -> float:
    """Choose the scale by the number of classes: sqrt(2) ln(C - 1) (Zhang et al. 2019, AdaCos, its fixed scale).

    That would be 0 for two classes; fewer than three count as three.

    >>> round(adacos_scale(81313), 2)
    15.99
    """
    return math.sqrt(2) * math.log(max(classes, 3) - 1)


def subcentre_cosines(features: Tensor, centres: Tensor) -> Tensor:
    """Compare features with the nearest of each class's K centres (Deng et al. 2020, Sub-center ArcFace).

    Args:
        features: `(B, D)` of any length.
        centres: `(C, K, D)` of any length.

    Returns:
        `(B, C)` cosines, computed in float32 or better also where half precision is on.

    >>> centres = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [-1.0, 0.0]]])
    >>> subcentre_cosines(torch.tensor([[0.0, 3.0]]), centres)
    tensor([[1., 0.]])
    """
    exact = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        directions = F.normalize(centres.to(exact), dim=2).flatten(0, 1)  # (C * K, D)
        cosines = F.linear(F.normalize(features.to(exact), dim=1), directions)  # (B, C * K)
    return cosines.view(len(features), *centres.shape[:2]).amax(dim=2)  # (B, C)

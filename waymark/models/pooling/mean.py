"""Poolings that average the last map: all of it, the fields of a grid, or with a power."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from waymark.models.pooling.base import PoolingOptions
from waymark.options.named import STRICT

GRID = 7  # side of the map that the classifier of VGG takes
POWER = 3.0  # as Radenović et al. begin
LEAST = 1e-6


@dataclass(frozen=True, config=STRICT)
class Mean(PoolingOptions):
    """Pooling `mean`: of each channel."""

    name: Literal["mean"] = "mean"

    def build(self, channels: Sequence[int]) -> nn.Module:
        """Build the module."""
        return nn.AdaptiveAvgPool2d(1)


@dataclass(frozen=True, config=STRICT)
class Grid(PoolingOptions):
    """Pooling `grid`: means of 7 x 7 fields of the map, as the classifier of VGG takes them."""

    name: Literal["grid"] = "grid"

    def build(self, channels: Sequence[int]) -> nn.Module:
        """Build the module."""
        return nn.AdaptiveAvgPool2d(GRID)

    def width(self, channels: Sequence[int]) -> int:
        """Count the features: one for each field and channel."""
        return channels[-1] * GRID**2


class GeMPooling(nn.Module):
    """Generalised mean of each channel: (mean of x^p)^(1/p).

    Radenović, Tolias and Chum 2018, Fine-tuning CNN Image Retrieval with No Human Annotation, equation 3. With p = 1
    it is the mean, and the larger p, the nearer the maximum; p is learnt, and less than 1 counts as 1. What is below
    1e-6 counts as that: a channel that is never positive has no say.

    Args:
        power: p at first.
    """

    def __init__(self, power: float = POWER) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, maps: Tensor) -> Tensor:
        """Pool `(N, C, h, w)` to `(N, C, 1, 1)`, in float32 or better on the way."""
        exact = torch.promote_types(maps.dtype, torch.float32)
        power = self.power.to(exact).clamp(min=1)
        values = maps.to(exact).clamp(min=LEAST)
        peak = values.detach().amax(dim=(2, 3), keepdim=True)  # without it, powers would leave the range of floats
        means = ((values / peak) ** power).mean(dim=(2, 3), keepdim=True)
        pooled: Tensor = peak * means ** (1 / power)
        return pooled.to(maps.dtype)


@dataclass(frozen=True, config=STRICT)
class GeM(PoolingOptions):
    """Pooling `gem`: a generalised mean of each channel, which learns its power."""

    name: Literal["gem"] = "gem"

    def build(self, channels: Sequence[int]) -> GeMPooling:
        """Build the module."""
        return GeMPooling()

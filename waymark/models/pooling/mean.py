"""Poolings that average: over the whole map, or over the fields of a grid."""

from collections.abc import Sequence
from typing import Literal

from pydantic.dataclasses import dataclass
from torch import nn

from waymark.models.pooling.base import PoolingOptions
from waymark.options.named import STRICT

GRID = 7  # side of the map that the classifier of VGG takes


@dataclass(frozen=True, config=STRICT)
class Mean(PoolingOptions):
    """Pooling `mean`: of each channel."""

    name: Literal["mean"] = "mean"

    def build(self, channels: Sequence[int]) -> nn.Module:
        """Build the module."""
        return nn.AdaptiveAvgPool2d(1)

    def width(self, channels: Sequence[int]) -> int:
        """Count the features: one for each channel."""
        return channels[-1]


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

"""Pooling of the maps at all resolutions."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from waymark.models.pooling.base import PoolingOptions
from waymark.options.named import STRICT

LEAST_VARIANCE = 1e-5  # as of batch norm; the root of 0 has no slope


@dataclass(frozen=True, config=STRICT)
class Levels(PoolingOptions):
    """Pooling `levels`: means and deviations of the maps at each resolution, which keep colours and textures."""

    all_levels: ClassVar[bool] = True

    name: Literal["levels"] = "levels"

    def build(self, channels: Sequence[int]) -> "LevelsPooling":
        """Build the module."""
        return LevelsPooling(sum(channels))

    def width(self, channels: Sequence[int]) -> int:
        """Count the features: two for each channel."""
        return 2 * sum(channels)


class LevelsPooling(nn.Module):
    """Mean and standard deviation of each channel at each level, normalised over the batch.

    What the last map has lost, colours and textures, is in the first ones: their means and deviations are the
    style of a picture (Huang and Belongie 2017, Arbitrary Style Transfer in Real-time with Adaptive Instance
    Normalization, equations 5 and 6).

    Args:
        channels: of all levels together.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * channels)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Pool `(N, C, h, w)` maps of several sizes to `(N, width)`, in float32 or better."""
        exact = [maps.to(torch.promote_types(maps.dtype, torch.float32)) for maps in levels]
        moments = [torch.var_mean(maps, dim=(2, 3), correction=0) for maps in exact]
        parts = [part for var, mean in moments for part in (mean, (var + LEAST_VARIANCE).sqrt())]
        pooled: Tensor = self.norm(torch.cat(parts, dim=1))
        return pooled

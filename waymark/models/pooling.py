"""Pooling: from a map of features, or the maps of several levels, to one vector."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from waymark.errors import ModelError

Pooling = Literal["mean", "gem", "grid", "levels"]

POOLINGS = ("mean", "gem", "grid", "levels")
GRID = 7  # side of the map that the classifier of VGG takes
POWER = 3.0  # as Radenović et al. begin
LEAST = 1e-6
LEAST_VARIANCE = 1e-5  # as of batch norm; the root of 0 has no slope


class GeM(nn.Module):
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


class Levels(nn.Module):
    """Mean and standard deviation of each channel at each level, normalised over the batch.

    What the last map has lost, colours and textures, is in the first ones: their means and deviations are the
    style of a picture (Huang and Belongie 2017, Arbitrary Style Transfer in Real-time with Adaptive Instance
    Normalization, equations 5 and 6).

    Args:
        channels: of all levels together.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = 2 * channels
        self.norm = nn.BatchNorm1d(self.width)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Pool `(N, C, h, w)` maps of several sizes to `(N, width)`, in float32 or better."""
        exact = [maps.to(torch.promote_types(maps.dtype, torch.float32)) for maps in levels]
        moments = [torch.var_mean(maps, dim=(2, 3), correction=0) for maps in exact]
        parts = [part for var, mean in moments for part in (mean, (var + LEAST_VARIANCE).sqrt())]
        pooled: Tensor = self.norm(torch.cat(parts, dim=1))
        return pooled


def build_pooling(pooling: Pooling) -> nn.Module:
    """Build what turns `(N, C, h, w)` into `(N, C, 1, 1)`, or for `grid` into `(N, C, 7, 7)`; `levels` is another.

    Raises:
        ModelError: there is no such pooling.
    """
    if pooling not in POOLINGS:
        raise ModelError(f"unknown pooling {pooling!r}; known: {', '.join(POOLINGS)}")
    if pooling == "gem":
        return GeM()
    return nn.AdaptiveAvgPool2d(GRID if pooling == "grid" else 1)

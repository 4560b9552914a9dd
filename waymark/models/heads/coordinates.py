"""Regression: straight to the coordinates, scaled."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from waymark.images.datamodule import Batch
from waymark.models.heads.adapter import Head, Place

Scaling = Literal["isotropic", "per_axis"]


class CoordinatesHead(Head):
    """Mean squared error on scaled coordinates of the CRS.

    The answer is kept inside the bounds of the region; during training it may leave them, so
    that the gradient never vanishes there.

    Args:
        width: number of features.
    """

    offset_m: Tensor
    scale_m: Tensor
    bounds_m: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2)
        self.register_buffer("offset_m", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("scale_m", torch.ones(2, dtype=torch.float64))
        self.register_buffer("bounds_m", torch.zeros(2, 2, dtype=torch.float64))  # lowest, highest x, y

    def remember(self, xy_m: NDArray[np.float64], bounds_m: NDArray[np.float64], scaling: Scaling) -> None:
        """Learn the scaler from the `(N, 2)` training records, and keep the region's bounds.

        Args:
            xy_m: training records in metres.
            bounds_m: `(2, 2)` lowest and highest x, y in metres.
            scaling: `isotropic` divides both axes by one scale, so that an error of a metre
                costs the same in either; `per_axis` takes each to 0-1, as the original did.
        """
        low, high = xy_m.min(axis=0), xy_m.max(axis=0)
        extent = np.where(high > low, high - low, 1.0)
        if scaling == "isotropic":
            offset, scale = (low + high) / 2, np.full(2, extent.max() / 2)
        else:
            offset, scale = low, extent
        self.offset_m.copy_(torch.from_numpy(offset))
        self.scale_m.copy_(torch.from_numpy(scale))
        self.bounds_m.copy_(torch.from_numpy(bounds_m))

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, 2)` scaled coordinates."""
        scaled: Tensor = self.linear(features)
        return scaled

    def known(self, batch: Batch) -> Tensor:
        """Mark the records that have coordinates."""
        return ~torch.isnan(batch.xy_m).any(dim=1)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Give the mean squared error over the records that have coordinates; 0 where none has."""
        known = self.known(batch)
        target = ((batch.xy_m - self.offset_m) / self.scale_m).to(output.dtype)
        return F.mse_loss(output[known], target[known]) if known.any() else output.sum() * 0

    def place(self, output: Tensor) -> Place:
        """Answer with the coordinates, kept inside the region's bounds."""
        xy_m = output.to(torch.float64) * self.scale_m + self.offset_m
        xy_m = torch.clamp(xy_m, self.bounds_m[0], self.bounds_m[1])
        return Place(xy_m, torch.full((len(output),), -1, dtype=torch.int64, device=output.device))

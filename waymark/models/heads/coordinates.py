"""Regression: straight to the coordinates, scaled."""

from typing import Literal

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.models.heads.adapter import Place, PlaceHead
from waymark.models.heads.spaces import CosineSpace, CrsSpace, Scaling, Space, SphereSpace

SpaceName = Literal["crs", "sphere", "cosine"]


class CoordinatesHead(PlaceHead):
    """Mean squared error on the coordinates of a space.

    The answer is kept inside the bounds of the region; during training it may leave them, so
    that the gradient never vanishes there.

    Args:
        width: number of features.
        crs: in which it answers, for the space `crs`.
        space: `crs`; `sphere`, unit vectors; or `cosine`, latitude and longitude times its cosine.
        scaling: of both axes by one scale, `isotropic`, which None stands for, or `per_axis`.

    Raises:
        ModelError: the sphere is given a scaling, or the space is unknown.
    """

    def __init__(self, width: int, crs: str, *, space: SpaceName = "crs", scaling: Scaling | None = None) -> None:
        super().__init__()
        self.space = _build_space(space, crs, scaling)
        self.linear = nn.Linear(width, self.space.width)

    def remember(self, lat_lon: NDArray[np.float64], region: gpd.GeoDataFrame) -> None:
        """Learn the scaler from `(N, 2)` training records in degrees; bounds from a region in EPSG:4326."""
        self.space.remember(lat_lon, region)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, 2)` scaled coordinates, or `(B, 3)` for the sphere."""
        scaled: Tensor = self.linear(features)
        return scaled

    def known(self, batch: Batch) -> Tensor:
        """Mark the records that have coordinates."""
        return self.space.known(batch)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Give the mean squared error over the records that have coordinates; 0 where none has."""
        known = self.known(batch)
        if not known.any():
            return output.sum() * 0
        return self.space.residual(output, batch)[known].square().mean()

    def place(self, output: Tensor) -> Place:
        """Answer with the coordinates, kept inside the region's bounds."""
        return Place(self.space.decode(output.detach()), torch.full((len(output),), -1, dtype=torch.int64))


def _build_space(space: SpaceName, crs: str, scaling: Scaling | None) -> Space:
    if space == "crs":
        return CrsSpace(crs, scaling or "isotropic")
    if space == "cosine":
        return CosineSpace(scaling or "isotropic")
    if space != "sphere":
        raise ModelError(f"unknown space {space!r}; set space to crs, sphere or cosine")
    if scaling is not None:
        raise ModelError(f"scaling {scaling} does nothing on the sphere, whose axes are alike; set scaling to null")
    return SphereSpace()

"""Regression: straight to the coordinates, scaled."""

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from waymark.images.batches import Batch
from waymark.models.heads.adapter import Place, PlaceHead, PlaceOptions, TrainingPlaces
from waymark.models.heads.spaces import CosineSpace, CrsSpace, Scaling, Space, SphereSpace
from waymark.options.named import STRICT


@dataclass(frozen=True, config=STRICT)
class Coordinates(PlaceOptions):
    """Head `coordinates`.

    Args:
        space: in which coordinates are learnt: `crs`; `sphere`, unit vectors; or `cosine`, latitude and longitude
            times its cosine.
        scaling: one scale for both axes, or each axis to 0-1; null is isotropic, and all that the sphere takes.
    """

    name: Literal["coordinates"] = "coordinates"
    space: Literal["crs", "sphere", "cosine"] = "crs"
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        if self.space == "sphere" and self.scaling is not None:
            raise ValueError(
                f"scaling {self.scaling} does nothing on the sphere, whose axes are alike; set scaling to null"
            )

    def build(self, width: int, *, cells: int, crs: str) -> "CoordinatesHead":
        """Build the head, which has no cells."""
        return CoordinatesHead(width, crs, self)


class CoordinatesHead(PlaceHead):
    """Mean squared error on the coordinates of a space.

    The answer is kept inside the bounds of the region; during training it may leave them, so
    that the gradient never vanishes there.

    Args:
        width: number of features.
        crs: in which it answers, for the space `crs`.
        options: of the head.
    """

    def __init__(self, width: int, crs: str, options: Coordinates) -> None:
        super().__init__()
        scaling = options.scaling or "isotropic"
        spaces = {"crs": lambda: CrsSpace(crs, scaling), "cosine": lambda: CosineSpace(scaling), "sphere": SphereSpace}
        self.space: Space = spaces[options.space]()
        self.linear = nn.Linear(width, self.space.width)

    def adapt(self, places: TrainingPlaces) -> None:
        """Learn the scaler from the training records, and bounds from the region."""
        self.space.adapt(places.lat_lon, places.region)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, 2)` scaled coordinates, or `(B, 3)` for the sphere."""
        scaled: Tensor = self.linear(features)
        return scaled

    def known(self, batch: Batch) -> Tensor:
        """Mark the records that have coordinates."""
        return self.space.known(batch)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute the mean squared error over the records that have coordinates; 0 where none has."""
        known = self.known(batch)
        if not known.any():
            return output.sum() * 0
        return self.space.residual(output, batch)[known].square().mean()

    def place(self, output: Tensor) -> Place:
        """Answer with the coordinates, kept inside the region's bounds."""
        return Place(self.space.decode(output.detach()), torch.full((len(output),), -1, dtype=torch.int64))

"""What every head offers, and its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waymark.errors import CoordinateError, ModelError
from waymark.geo.crs import unproject
from waymark.images.batches import Batch
from waymark.options.named import Named

if TYPE_CHECKING:
    from waymark.models.heads.landmarks import LandmarkOptions

HALVINGS = 40  # of the way to the map's origin: from anywhere on Earth down to less than a millimetre


class Place(NamedTuple):
    """Where a head believes each record to be, on the CPU."""

    lat_lon: Tensor  # (B, 2) float64, degrees
    choice: Tensor  # (B,) int64, most probable class, -1 for heads without classes


class HeadParts(NamedTuple):
    """The heads that options ask for, and what the loss of each counts."""

    place: PlaceOptions | None
    landmark: LandmarkOptions | None
    weights: dict[str, float]  # by the names of the fields above


class HeadOptions(Named, ABC):
    """What a network learns."""

    kind = "head"
    by_gradient: ClassVar[bool] = True  # whether epochs teach it, or one look at the training records

    @abstractmethod
    def parts(self) -> HeadParts:
        """List the heads."""


class Head(nn.Module, ABC):
    """Turns features into raw output, and that into a loss."""

    @abstractmethod
    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute the mean loss over the records that have the truth which the head learns."""

    @abstractmethod
    def known(self, batch: Batch) -> Tensor:
        """Mark the `(B,)` records that have the truth which the head learns."""

    def weight(self, batch: Batch) -> Tensor:
        """Weigh the `(B,)` records in the loss, a weighted mean: 1 with a truth, else 0."""
        return self.known(batch).float()


class AtOnce(ABC):
    """A head that no gradient teaches, but one look at the training records."""

    @abstractmethod
    def learn(self, features: Tensor, landmark: Tensor) -> None:
        """Learn from the training records that have the truth which the head learns.

        Args:
            features: `(N, width)`.
            landmark: `(N,)` class, -2 where the pictures show none.
        """


@dataclass(frozen=True)
class TrainingPlaces:
    """What a head for places may learn before any gradient: the training records that have coordinates.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees.
        xy_m: `(N, 2)` metres in the CRS.
        region: polygons in EPSG:4326 that answers lie in.
        cell: `(N,)` number of each record's cell in the grid, -1 without.
        grid: the cells in the CRS, in the order of their numbers; None without a grid.
    """

    lat_lon: NDArray[np.float64]
    xy_m: NDArray[np.float64]
    region: gpd.GeoDataFrame
    cell: NDArray[np.int64]
    grid: gpd.GeoDataFrame | None = None


class PlaceOptions(HeadOptions):
    """Options of a head for places."""

    has_cells: ClassVar[bool] = False  # whether its classes are the cells of a grid
    by_records: ClassVar[bool] = False  # whether each training record with coordinates is a cell of its own

    @abstractmethod
    def build(self, width: int, *, cells: int, crs: str) -> PlaceHead:
        """Build the head.

        Args:
            width: number of features.
            cells: number of cells, for heads that have any.
            crs: in which the model answers.
        """

    def parts(self) -> HeadParts:
        """List the head."""
        return HeadParts(self, None, {"place": 1.0})


class PlaceHead(Head):
    """A head that says where a record is."""

    @abstractmethod
    def adapt(self, places: TrainingPlaces) -> None:
        """Learn from the training records what no gradient teaches, such as scales and the positions of cells."""

    @abstractmethod
    def place(self, output: Tensor) -> Place:
        """Answer for each record of the output."""


def is_by_gradient(options: HeadOptions) -> bool:
    """Say whether epochs teach a head, or both of a joint one.

    Raises:
        ModelError: they teach one of the two only.
    """
    place, landmark, _ = options.parts()
    ways = {part.by_gradient for part in (place, landmark) if part is not None}
    if len(ways) == 2:
        raise ModelError("epochs teach one of the two heads of joint, and not the other; choose both of one kind")
    return ways.pop()


def to_lat_lon(xy_m: Tensor, crs: str) -> Tensor:
    """Turn metres into degrees on the CPU; NaNs stay NaN.

    A point off the map, as a corner of a box in a round map can be, is moved straight towards the
    map's origin until it is a place on Earth.

    Args:
        xy_m: `(..., 2)` x, y in metres.
        crs: that they are in.

    Returns:
        `(..., 2)` float64 latitude, longitude in degrees.
    """
    points = xy_m.detach().to("cpu", torch.float64).reshape(-1, 2).numpy()
    lat_lon = np.full(points.shape, np.nan)
    known = np.isfinite(points).all(axis=1)
    try:
        lat_lon[known] = unproject(points[known], crs, anywhere=True)
    except CoordinateError:
        lat_lon[known] = np.concatenate([_on_the_map(point, crs) for point in points[known]])
    return torch.from_numpy(lat_lon).reshape(xy_m.shape)


def _on_the_map(point: NDArray[np.float64], crs: str) -> NDArray[np.float64]:
    """Compute `(1, 2)` degrees of a point, or of the last one on its way from the origin that is on the map."""
    low, high = 0.0, 2.0  # shares of the way; the first one tried is the point itself
    lat_lon = unproject([point * 0], crs, anywhere=True)
    for _ in range(HALVINGS):
        share = (low + high) / 2
        try:
            lat_lon, low = unproject([point * share], crs, anywhere=True), share
        except CoordinateError:
            high = share
        if low == 1:
            break
    return lat_lon

"""The spaces that coordinates can be learnt in: what a network gives for a place, and back."""

from abc import ABC, abstractmethod
from typing import Literal

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from waymark.geo.crs import project, smallest_arc
from waymark.geo.regions import region_lat_lon
from waymark.images.batches import Batch
from waymark.models.decoding import to_degrees, unit_vectors
from waymark.models.heads.adapter import to_lat_lon

Scaling = Literal["isotropic", "per_axis"]

EDGE_DEG = 1.0  # edges of a region are followed in such steps, for its westmost and eastmost longitude
ROUND_DEG = 358.0  # a region that wide goes all around
LEAST_COSINE = 1e-9  # of a latitude: a centimetre from the pole all longitudes are one


class Space(nn.Module, ABC):
    """A space with its scaler, learnt from training records, and the bounds of the answers."""

    width: int  # numbers that a net gives for a place

    @abstractmethod
    def adapt(self, lat_lon: NDArray[np.float64], region: gpd.GeoDataFrame) -> None:
        """Learn the scaler from `(N, 2)` training records in degrees, and the bounds from a region in EPSG:4326."""

    @abstractmethod
    def known(self, batch: Batch) -> Tensor:
        """Mark the `(B,)` records with coordinates."""

    @abstractmethod
    def residual(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute the `(B, width)` scaled difference between raw output and truth."""

    @abstractmethod
    def decode(self, output: Tensor) -> Tensor:
        """Turn `(B, width)` raw output into `(B, 2)` latitude, longitude in degrees on the CPU, in the bounds."""


class Scaler(nn.Module):
    """Takes two coordinates to numbers around 1.

    Args:
        scaling: `isotropic` divides both axes by one scale, so that an error of a metre costs the same
            in either; `per_axis` takes each to 0-1, as the original did.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        self.scaling = scaling
        self.register_buffer("offset", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(2, dtype=torch.float64))

    def adapt(self, values: NDArray[np.float64]) -> None:
        """Learn offset and scale from `(N, 2)` values."""
        low, high = values.min(axis=0), values.max(axis=0)
        extent = np.where(high > low, high - low, 1.0)
        if self.scaling == "isotropic":
            low, extent = (low + high) / 2, np.full(2, extent.max() / 2)
        self.offset.copy_(torch.from_numpy(low))
        self.scale.copy_(torch.from_numpy(extent))

    def scaled(self, values: Tensor) -> Tensor:
        """Scale `(B, 2)` values."""
        return (values - self.offset) / self.scale

    def values(self, scaled: Tensor) -> Tensor:
        """Take `(B, 2)` scaled numbers back, in float64."""
        return scaled.to(torch.float64) * self.scale + self.offset


class CrsSpace(Space):
    """The metres of the CRS; answers are kept inside the bounds of the region there.

    Args:
        crs: in metres.
        scaling: see `Scaler`.
    """

    width = 2
    bounds_m: Tensor  # (2, 2) float64, lowest and highest x, y

    def __init__(self, crs: str, scaling: Scaling) -> None:
        super().__init__()
        self.crs, self.scaler = crs, Scaler(scaling)
        self.register_buffer("bounds_m", torch.zeros(2, 2, dtype=torch.float64))

    def adapt(self, lat_lon: NDArray[np.float64], region: gpd.GeoDataFrame) -> None:
        """Learn scaler and bounds in metres."""
        self.scaler.adapt(project(lat_lon, self.crs, anywhere=True))
        self.bounds_m.copy_(torch.from_numpy(region.to_crs(self.crs).total_bounds.reshape(2, 2)))

    def known(self, batch: Batch) -> Tensor:
        """Mark the records with metres."""
        return ~torch.isnan(batch.xy_m).any(dim=1)

    def residual(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute the difference of scaled metres."""
        return output - self.scaler.scaled(batch.xy_m).to(output.dtype)

    def decode(self, output: Tensor) -> Tensor:
        """Take metres back, keep them in the bounds, unproject."""
        return to_lat_lon(torch.clamp(self.scaler.values(output), self.bounds_m[0], self.bounds_m[1]), self.crs)


class DegreeBounds(nn.Module):
    """Keeps places between two parallels and two meridians, also across the antimeridian."""

    box: Tensor  # (4,) float64: south, north, middle longitude, half width, in degrees

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("box", torch.tensor([-90.0, 90.0, 0.0, 180.0], dtype=torch.float64))

    def adapt(self, region: gpd.GeoDataFrame) -> None:
        """Learn the smallest box around a region in EPSG:4326."""
        dense = region.set_geometry(region.geometry.segmentize(EDGE_DEG))
        latitude, longitude = region_lat_lon(dense).T
        west, east = smallest_arc(longitude)
        middle, half = (0.0, 180.0) if east - west > ROUND_DEG else ((west + east) / 2, (east - west) / 2)
        self.box.copy_(torch.tensor([latitude.min(), latitude.max(), middle, half], dtype=torch.float64))

    def keep(self, lat_lon: Tensor) -> Tensor:
        """Move `(B, 2)` degrees to the nearest latitude and longitude inside; longitudes come from -180 to 180."""
        south, north, middle, half = self.box.to(lat_lon.device)
        east_of_middle = torch.minimum(torch.maximum(wrapped(lat_lon[:, 1] - middle), -half), half)
        return torch.stack([lat_lon[:, 0].clamp(south, north), wrapped(east_of_middle + middle)], dim=1)


class SphereSpace(Space):
    """Unit vectors in three dimensions: no seam and no pole, for places all over the Earth.

    The network answers in the space around the centroid of the training records' vectors, in units of their
    greatest distance from it, so that a region of any size is learnt alike; the vector is then brought to
    length 1. The mean squared error is a third of the squared chord, 2 - 2 cos of the angle, in the same units.
    """

    width = 3
    offset: Tensor  # (3,) float64
    scale: Tensor  # () float64

    def __init__(self) -> None:
        super().__init__()
        self.bounds = DegreeBounds()
        self.register_buffer("offset", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(1.0, dtype=torch.float64))

    def adapt(self, lat_lon: NDArray[np.float64], region: gpd.GeoDataFrame) -> None:
        """Learn centroid and radius of the records, and bounds in degrees."""
        vectors = unit_vectors(torch.from_numpy(np.asarray(lat_lon, dtype=np.float64)))
        self.offset.copy_(vectors.mean(dim=0))
        self.scale.copy_(torch.linalg.vector_norm(vectors - self.offset, dim=1).amax().clamp(min=1e-6))
        self.bounds.adapt(region)

    def known(self, batch: Batch) -> Tensor:
        """Mark the records with degrees."""
        return ~torch.isnan(batch.lat_lon).any(dim=1)

    def residual(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute the difference of unit vectors, in units of the scale."""
        target = unit_vectors(batch.lat_lon)
        return ((self._vectors(output) - target) / self.scale).to(output.dtype)

    def decode(self, output: Tensor) -> Tensor:
        """Take the angles of the vector."""
        return self.bounds.keep(to_degrees(self._vectors(output))).cpu()

    def _vectors(self, output: Tensor) -> Tensor:
        return F.normalize(output.to(torch.float64) * self.scale + self.offset, dim=1)


class CosineSpace(Space):
    """Latitude, and longitude times the cosine of the latitude: the sinusoidal projection, in degrees.

    A degree then is the same distance along either axis. Longitudes count from the middle of the training
    records' arc, so that the seam lies opposite them.

    Args:
        scaling: see `Scaler`.
    """

    width = 2
    middle: Tensor  # () float64, degrees

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        self.scaler, self.bounds = Scaler(scaling), DegreeBounds()
        self.register_buffer("middle", torch.tensor(0.0, dtype=torch.float64))

    def adapt(self, lat_lon: NDArray[np.float64], region: gpd.GeoDataFrame) -> None:
        """Learn middle and scaler of the records, and bounds in degrees."""
        places = np.asarray(lat_lon, dtype=np.float64)
        self.middle.fill_(sum(smallest_arc(places[:, 1])) / 2)
        self.scaler.adapt(self._transformed(torch.from_numpy(places)).numpy())
        self.bounds.adapt(region)

    def known(self, batch: Batch) -> Tensor:
        """Mark the records with degrees."""
        return ~torch.isnan(batch.lat_lon).any(dim=1)

    def residual(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute the difference of scaled transformed degrees."""
        return output - self.scaler.scaled(self._transformed(batch.lat_lon)).to(output.dtype)

    def decode(self, output: Tensor) -> Tensor:
        """Divide by the cosine again; beyond the map's edge is its edge."""
        latitude, across = self.scaler.values(output).unbind(dim=1)
        latitude = latitude.clamp(-90, 90)
        east_of_middle = (across / torch.cos(torch.deg2rad(latitude)).clamp(min=LEAST_COSINE)).clamp(-180, 180)
        return self.bounds.keep(torch.stack([latitude, wrapped(east_of_middle + self.middle)], dim=1)).cpu()

    def _transformed(self, lat_lon: Tensor) -> Tensor:
        latitude, longitude = lat_lon.unbind(dim=1)
        across = wrapped(longitude - self.middle) * torch.cos(torch.deg2rad(latitude))
        return torch.stack([latitude, across], dim=1)


def wrapped(longitude: Tensor) -> Tensor:
    """Bring longitudes to -180 up to 180; both ends stay as they are.

    >>> wrapped(torch.tensor([-180.0, 180.0, 190.0, 540.0, 16.0]))
    tensor([-180.,  180., -170., -180.,   16.])
    """
    return torch.where(longitude.abs() <= 180, longitude, (longitude + 180) % 360 - 180)

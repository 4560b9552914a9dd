"""The land that a model keeps its answers on, carried by its checkpoint."""

from typing import Any

import numpy as np
import shapely
import torch
from geopandas import GeoSeries
from numpy.typing import NDArray
from torch import Tensor, nn

from waymark.errors import CoordinateError, ModelError
from waymark.geo.crs import project, unproject
from waymark.metrics.functional import haversine_km
from waymark.models.decoding import row_chunks

EDGE_DEG = 0.25  # an edge along a parallel, drawn straight in a CRS, then is about 10 m off at most


class Land(nn.Module):
    """Moves places off the land to its nearest point.

    Nearest is measured in the CRS. Farther off the outline's bounds than those are wide that means little,
    and the outline's vertex that is nearest by great circle takes its place.

    The outline is a buffer of bytes (well-known binary), so that the checkpoint is the whole model; it is
    not simplified: Croatia at 1:10m takes 37 kB.

    Args:
        crs: metric, in which distances are compared.
    """

    outline: Tensor  # (n,) uint8

    def __init__(self, crs: str) -> None:
        super().__init__()
        self.crs = crs
        self.register_buffer("outline", torch.zeros(0, dtype=torch.uint8))
        self._shore: _Shore | None = None

    def adapt(self, land: GeoSeries) -> None:
        """Keep an outline, in any CRS.

        Raises:
            ModelError: it has no polygon.
        """
        polygons = land.to_crs("EPSG:4326").segmentize(EDGE_DEG).to_crs(self.crs).make_valid().union_all()
        if polygons.is_empty or not polygons.area:
            raise ModelError("the land has no polygon to move answers to; set snap_to_land to false, or set a region")
        self.outline = torch.from_numpy(np.frombuffer(shapely.to_wkb(polygons), dtype=np.uint8).copy())
        self._shore = None

    def nearest(self, lat_lon: Tensor) -> Tensor:
        """Move `(B, 2)` degrees to the nearest land; places on land, and what is no number, stay as they are.

        Raises:
            ModelError: no outline was kept.
        """
        if not len(self.outline):
            raise ModelError("no outline was kept to move answers to; call remember first")
        if self._shore is None:
            self._shore = _Shore(self.outline.cpu().numpy().tobytes(), self.crs)
        moved = lat_lon.detach().to("cpu", torch.float64).clone()
        known = np.flatnonzero(moved.isfinite().all(dim=1).numpy())
        if len(known):
            moved[known] = torch.from_numpy(self._shore.nearest(moved[known].numpy()))
        return moved

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Make room for the outline of the checkpoint, whose length is its own."""
        if isinstance(given := state_dict.get(f"{prefix}outline"), Tensor):
            self.outline, self._shore = torch.zeros_like(given), None
        super()._load_from_state_dict(state_dict, prefix, *rest)


class _Shore:
    """An outline made ready to be searched.

    Args:
        binary: well-known binary of polygons in the CRS.
        crs: in metres.
    """

    def __init__(self, binary: bytes, crs: str) -> None:
        self.crs, self.land = crs, shapely.from_wkb(binary)
        shapely.prepare(self.land)
        vertices, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(self.land)), return_index=True)
        inside = ring[1:] == ring[:-1]
        self.start, self.end = vertices[:-1][inside], vertices[1:][inside]  # (S, 2) metres
        self.edges = shapely.STRtree(shapely.linestrings(np.stack([self.start, self.end], axis=1)))
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        width = (high - low).max()
        self.low, self.high = low - width, high + width
        self.vertices = torch.from_numpy(unproject(vertices, crs, anywhere=True))  # (V, 2) degrees

    def nearest(self, lat_lon: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move `(B, 2)` finite degrees to the nearest land."""
        moved = lat_lon.copy()
        xy_m = self._metres(lat_lon)
        near = ((xy_m >= self.low) & (xy_m <= self.high)).all(axis=1)
        off = np.flatnonzero(near)[~shapely.covers(self.land, shapely.points(xy_m[near]))]
        moved[off] = unproject(self._ashore(xy_m[off]), self.crs, anywhere=True)
        moved[~near] = self._nearest_vertices(lat_lon[~near])
        return moved

    def _metres(self, lat_lon: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project degrees; NaN for those that have no place in the CRS, as half the Earth has none in a zone's."""
        try:
            return project(lat_lon, self.crs, anywhere=True)
        except CoordinateError:
            if len(lat_lon) == 1:
                return np.full((1, 2), np.nan)
        half = len(lat_lon) // 2
        return np.concatenate([self._metres(lat_lon[:half]), self._metres(lat_lon[half:])])

    def _ashore(self, xy_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the `(B, 2)` nearest points of the edges."""
        edge = self.edges.nearest(shapely.points(xy_m))
        start, along = self.start[edge], self.end[edge] - self.start[edge]
        length = np.maximum((along * along).sum(axis=1), 1e-12)
        share = np.clip(((xy_m - start) * along).sum(axis=1) / length, 0, 1)
        ashore: NDArray[np.float64] = start + share[:, None] * along
        return ashore

    def _nearest_vertices(self, lat_lon: NDArray[np.float64]) -> NDArray[np.float64]:
        places, found = torch.from_numpy(lat_lon), np.empty(lat_lon.shape)
        for rows in row_chunks(len(places), len(self.vertices)):
            closest = haversine_km(places[rows, None], self.vertices).argmin(dim=1)
            found[rows] = self.vertices[closest].numpy()
        return found

"""Geocells: which cell, and from the cells' probabilities where."""

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from waymark.geo.crs import project, smallest_arc
from waymark.images.batches import Batch
from waymark.metrics.functional import haversine_km
from waymark.models.decoding import (
    Answer,
    best_position,
    geometric_median,
    highest_score,
    mean_position,
    row_chunks,
)
from waymark.models.heads.adapter import Place, PlaceHead, PlaceOptions, TrainingPlaces, to_lat_lon
from waymark.options.kinds import DistanceKm
from waymark.options.named import STRICT

Position = Literal["training", "centre"]

SCORE_SHARE = 0.1  # of the map's diagonal, GeoGuessr's rule for maps other than the world's


@dataclass(frozen=True, config=STRICT)
class CellOptions(PlaceOptions):
    """Options of all heads over cells.

    Args:
        answer: made of the cells' probabilities and positions: their `mean` in the CRS, the `best` alone,
            the `median` (the place with the smallest expected distance in the CRS), or the place with the
            highest expected `score`, exp(-great-circle distance / scale).
        position: of a cell: the mean of its training records, or its clipped centre.
        smoothing_km: distance over which the label fades into neighbouring cells, tau of `smoothed_labels`;
            null is a hard label.
        score_km: scale of the score; null is a tenth of the diagonal of the training records' extent, as
            GeoGuessr has it, whose world map has 1492.7 km.
    """

    has_cells: ClassVar[bool] = True

    answer: Answer = "mean"
    position: Position = "training"
    smoothing_km: DistanceKm | None = None
    score_km: DistanceKm | None = None

    def __post_init__(self) -> None:
        if self.score_km is not None and self.answer != "score":
            raise ValueError(
                f"score_km does nothing for the answer {self.answer!r}; set it to null, or answer to score"
            )


@dataclass(frozen=True, config=STRICT)
class Cells(CellOptions):
    """Head `cells`."""

    name: Literal["cells"] = "cells"

    def build(self, width: int, *, cells: int, crs: str) -> "CellsHead":
        """Build the head."""
        return CellsHead(width, cells, crs, self)


class CellHead(PlaceHead):
    """A head that gives probabilities of the cells that hold training records.

    Args:
        cells: number of classes.
        crs: of the cells' positions.
        options: of the head.
    """

    cell_ids: Tensor  # (K,) int64, the grid's number of each class
    positions_m: Tensor  # (K, 2) float64, metres in the CRS
    positions_deg: Tensor  # (K, 2) float64, the same as latitude, longitude
    scale_km: Tensor  # () float64, of the score

    def __init__(self, cells: int, crs: str, options: CellOptions) -> None:
        super().__init__()
        self.crs, self.options = crs, options
        self.register_buffer("cell_ids", torch.zeros(cells, dtype=torch.int64))
        self.register_buffer("positions_m", torch.zeros(cells, 2, dtype=torch.float64))
        self.register_buffer("positions_deg", torch.zeros(cells, 2, dtype=torch.float64))
        self.register_buffer("scale_km", torch.tensor(1.0, dtype=torch.float64))

    def adapt(self, places: TrainingPlaces) -> None:
        """Learn which cells hold training records, and where they are."""
        assert places.grid is not None
        kept = np.unique(places.cell[places.cell >= 0])
        centres_m = project(places.grid[["latitude", "longitude"]].to_numpy(), self.crs)
        positions_m = cell_positions(kept, places.cell, places.xy_m, centres_m, self.options.position)
        self.set_cells(kept, positions_m, places.lat_lon)

    def set_cells(self, cell_ids: NDArray[np.int64], positions_m: NDArray[np.float64], lat_lon: ArrayLike) -> None:
        """Set where the cells are.

        Args:
            cell_ids: `(K,)` the grid's number of each class.
            positions_m: `(K, 2)` metres.
            lat_lon: `(N, 2)` training records in degrees, for the scale of the score.
        """
        self.cell_ids.copy_(torch.from_numpy(cell_ids))
        self.positions_m.copy_(torch.from_numpy(positions_m))
        self.positions_deg.copy_(to_lat_lon(self.positions_m, self.crs))
        score_km = self.options.score_km
        self.scale_km.fill_(SCORE_SHARE * diagonal_km(lat_lon) if score_km is None else score_km)

    @abstractmethod
    def logits(self, output: Tensor) -> Tensor:
        """Take the `(B, K)` logits of the cells from the raw output."""

    def probabilities(self, output: Tensor, temperature: float = 1.0) -> Tensor:
        """Compute the `(B, K)` float64 probabilities of the cells."""
        return (self.logits(output).to(torch.float64) / temperature).softmax(dim=1)

    def cells_m(self, output: Tensor) -> Tensor:
        """Compute the cells' positions in metres: `(K, 2)`, or `(B, K, 2)` where each record has its own."""
        return self.positions_m

    def cells_deg(self, output: Tensor) -> Tensor:
        """Compute the same as latitude, longitude in degrees, on the CPU."""
        own = self.cells_m(output)
        return self.positions_deg.cpu() if own is self.positions_m else to_lat_lon(own, self.crs)

    def known(self, batch: Batch) -> Tensor:
        """Mark the records whose cell is a class."""
        return batch.label >= 0

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute the cross-entropy over the records whose cell is a class; 0 where none is."""
        known = self.known(batch)
        if not known.any():
            return output.sum() * 0
        logits = self.logits(output[known])
        smoothing_km = self.options.smoothing_km
        if smoothing_km is None:
            return F.cross_entropy(logits, batch.label[known])
        soft = smoothed_labels(batch.lat_lon[known], batch.label[known], self.positions_deg, smoothing_km)
        return F.cross_entropy(logits, soft.to(logits.dtype))

    def place(self, output: Tensor) -> Place:
        """Answer with what the cells' probabilities and positions make."""
        output = output.detach()
        lat_lon = torch.empty(len(output), 2, dtype=torch.float64)
        for rows in row_chunks(*output.shape):
            lat_lon[rows] = self._decode(output[rows])
        return Place(lat_lon, self.logits(output).argmax(dim=1).cpu())

    def _decode(self, output: Tensor) -> Tensor:
        chances = self.probabilities(output)
        if self.options.answer == "score":
            return highest_score(chances.cpu(), self.cells_deg(output), float(self.scale_km))
        decode = {"mean": mean_position, "best": best_position, "median": geometric_median}[self.options.answer]
        return to_lat_lon(decode(chances, self.cells_m(output)), self.crs)


class CellsHead(CellHead):
    """Cross-entropy over the cells, and nothing else.

    Args:
        width: number of features.
        cells: number of classes.
        crs: of the cells' positions.
        options: of the head.
    """

    def __init__(self, width: int, cells: int, crs: str, options: CellOptions) -> None:
        super().__init__(cells, crs, options)
        self.linear = nn.Linear(width, cells)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, K)` logits."""
        logits: Tensor = self.linear(features)
        return logits

    def logits(self, output: Tensor) -> Tensor:
        """Return the output: it is the logits."""
        return output


def smoothed_labels(lat_lon: Tensor, label: Tensor, cells_deg: Tensor, tau_km: float) -> Tensor:
    """Share each record's label with the cells around it.

    y_k is proportional to exp(-(d(g_k, x) - d(g_n, x)) / tau), d the haversine distance, g_k the position
    of cell k, n the record's own cell (Haas et al. 2023, PIGEON, equation 1), here with sum 1. As tau falls
    to 0 this becomes the hard label of the cell whose position is nearest: the record's own, unless that
    of a neighbour is nearer, as the mean of training records can be across a border.

    Args:
        lat_lon: `(B, 2)` degrees of the records.
        label: `(B,)` own cell of each.
        cells_deg: `(K, 2)` degrees of the cells' positions.
        tau_km: the larger, the smoother.

    Returns:
        `(B, K)` float64 probabilities.
    """
    distance_km = haversine_km(lat_lon[:, None], cells_deg[None])  # (B, K)
    own_km = distance_km.gather(1, label[:, None])
    return (-(distance_km - own_km) / tau_km).softmax(dim=1)


def diagonal_km(lat_lon: ArrayLike) -> float:
    """Measure the diagonal of the smallest box of latitude and longitude around `(N, 2)` places.

    >>> round(diagonal_km([[45.0, 15.0], [46.0, 16.0], [45.5, 15.5]]))
    136
    """
    places = np.asarray(lat_lon, dtype=np.float64)
    west, east = smallest_arc(places[:, 1])
    corners = torch.tensor([[places[:, 0].min(), 0.0], [places[:, 0].max(), min(east - west, 180.0)]])
    return float(haversine_km(*corners.double()).clamp(min=1e-3))


def cell_positions(
    kept: NDArray[np.int64],
    cell: NDArray[np.int64],
    xy_m: NDArray[np.float64],
    centres_m: NDArray[np.float64],
    position: Position,
) -> NDArray[np.float64]:
    """Place each kept cell's answer.

    Args:
        kept: `(K,)` numbers of the cells.
        cell: `(N,)` cell of each training record.
        xy_m: `(N, 2)` training records in metres.
        centres_m: `(C, 2)` clipped centres of all cells in metres, by number.
        position: the mean of the cell's training records, or its clipped centre.

    Returns:
        `(K, 2)` metres.
    """
    if position == "centre":
        return centres_m[kept]
    return np.stack([xy_m[cell == number].mean(axis=0) for number in kept])

"""Geocells: which cell, and from the cells' probabilities where."""

from abc import abstractmethod
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from waymark.errors import ModelError
from waymark.geo.crs import smallest_arc
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
from waymark.models.heads.adapter import Place, PlaceHead, to_lat_lon

Position = Literal["training", "centre"]

SCORE_SHARE = 0.1  # of the map's diagonal, GeoGuessr's rule for maps other than the world's


class CellHead(PlaceHead):
    """A head that gives probabilities of the cells that hold training records.

    The answer is made of those and of the cells' positions: their `mean` in the CRS, the `best` alone,
    the `median` (the place with the smallest expected distance in the CRS), or the place with the
    highest expected `score`, exp(-great-circle distance / scale).

    Args:
        cells: number of classes.
        crs: of the cells' positions.
        answer: `mean`, `best`, `median` or `score`.
        smoothing_km: tau of the smoothed labels; None learns the record's own cell alone.
        score_km: scale of the score; None takes a tenth of the diagonal of the training records'
            extent, as GeoGuessr does, whose world map has 1492.7 km.

    Raises:
        ModelError: a scale is given for another answer, which would ignore it.
    """

    cell_ids: Tensor  # (K,) int64, the grid's number of each class
    positions_m: Tensor  # (K, 2) float64, metres in the CRS
    positions_deg: Tensor  # (K, 2) float64, the same as latitude, longitude
    scale_km: Tensor  # () float64, of the score

    def __init__(
        self,
        cells: int,
        crs: str,
        *,
        answer: Answer = "mean",
        smoothing_km: float | None = None,
        score_km: float | None = None,
    ) -> None:
        super().__init__()
        if score_km is not None and answer != "score":
            raise ModelError(f"score_km does nothing for the answer {answer!r}; set it to null, or answer to score")
        self.crs, self.answer, self.smoothing_km, self.score_km = crs, answer, smoothing_km, score_km
        self.register_buffer("cell_ids", torch.zeros(cells, dtype=torch.int64))
        self.register_buffer("positions_m", torch.zeros(cells, 2, dtype=torch.float64))
        self.register_buffer("positions_deg", torch.zeros(cells, 2, dtype=torch.float64))
        self.register_buffer("scale_km", torch.tensor(1.0, dtype=torch.float64))

    def _keep_cells(self, cell_ids: NDArray[np.int64], positions_m: NDArray[np.float64], lat_lon: ArrayLike) -> None:
        self.cell_ids.copy_(torch.from_numpy(cell_ids))
        self.positions_m.copy_(torch.from_numpy(positions_m))
        self.positions_deg.copy_(to_lat_lon(self.positions_m, self.crs))
        self.scale_km.fill_(SCORE_SHARE * diagonal_km(lat_lon) if self.score_km is None else self.score_km)

    @abstractmethod
    def logits(self, output: Tensor) -> Tensor:
        """Take the `(B, K)` logits of the cells from the raw output."""

    def probabilities(self, output: Tensor, temperature: float = 1.0) -> Tensor:
        """Give the `(B, K)` float64 probabilities of the cells."""
        return (self.logits(output).to(torch.float64) / temperature).softmax(dim=1)

    def cells_m(self, output: Tensor) -> Tensor:
        """Give the cells' positions in metres: `(K, 2)`, or `(B, K, 2)` where each record has its own."""
        return self.positions_m

    def cells_deg(self, output: Tensor) -> Tensor:
        """Give the same as latitude, longitude in degrees, on the CPU."""
        own = self.cells_m(output)
        return self.positions_deg.cpu() if own is self.positions_m else to_lat_lon(own, self.crs)

    def known(self, batch: Batch) -> Tensor:
        """Mark the records whose cell is a class."""
        return batch.label >= 0

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Give the cross-entropy over the records whose cell is a class; 0 where none is."""
        known = self.known(batch)
        if not known.any():
            return output.sum() * 0
        logits = self.logits(output[known])
        if self.smoothing_km is None:
            return F.cross_entropy(logits, batch.label[known])
        soft = smoothed_labels(batch.lat_lon[known], batch.label[known], self.positions_deg, self.smoothing_km)
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
        if self.answer == "score":
            return highest_score(chances.cpu(), self.cells_deg(output), float(self.scale_km))
        decode = {"mean": mean_position, "best": best_position, "median": geometric_median}[self.answer]
        return to_lat_lon(decode(chances, self.cells_m(output)), self.crs)


class CellsHead(CellHead):
    """Cross-entropy over the cells, and nothing else.

    Args:
        width: number of features.
        cells: number of classes.
        crs: of the cells' positions.
        answer: see `CellHead`.
        smoothing_km: see `CellHead`.
        score_km: see `CellHead`.
    """

    def __init__(
        self,
        width: int,
        cells: int,
        crs: str,
        *,
        answer: Answer = "mean",
        smoothing_km: float | None = None,
        score_km: float | None = None,
    ) -> None:
        super().__init__(cells, crs, answer=answer, smoothing_km=smoothing_km, score_km=score_km)
        self.linear = nn.Linear(width, cells)

    def remember(self, cell_ids: NDArray[np.int64], positions_m: NDArray[np.float64], lat_lon: ArrayLike) -> None:
        """Keep where the cells are.

        Args:
            cell_ids: `(K,)` the grid's number of each class.
            positions_m: `(K, 2)` metres.
            lat_lon: `(N, 2)` training records in degrees, for the scale of the score.
        """
        self._keep_cells(cell_ids, positions_m, lat_lon)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, K)` logits."""
        logits: Tensor = self.linear(features)
        return logits

    def logits(self, output: Tensor) -> Tensor:
        """Give the output: it is the logits."""
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
    """Say where each kept cell's answer lies.

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

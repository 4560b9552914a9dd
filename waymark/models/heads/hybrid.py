"""Cell and offset: which cell, and where inside it."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from waymark.images.batches import Batch
from waymark.models.heads.adapter import TrainingPlaces
from waymark.models.heads.cells import CellHead, CellOptions
from waymark.options.kinds import Weight
from waymark.options.named import STRICT


@dataclass(frozen=True, config=STRICT)
class Hybrid(CellOptions):
    """Head `hybrid`: a cell, and where inside it. The offset counts from the cell's position.

    Args:
        offset_weight: weight of the offset's loss, where that of the cell has 1.
    """

    name: Literal["hybrid"] = "hybrid"
    offset_weight: Weight = 1.0

    def build(self, width: int, *, cells: int, crs: str) -> "HybridHead":
        """Build the head."""
        return HybridHead(width, cells, crs, self)


class HybridHead(CellHead):
    """Cross-entropy over the cells, and for the true one a regression of the offset inside it.

    The offset of a cell counts from its position in half extents of its box, and is learnt with a smooth L1
    loss. It has no bound while it is learnt, so that the edges are reached like any other place; in the
    answer each cell's position plus offset is kept inside the cell's box, and the decoders of the cells
    work on these positions. An untrained head has no offsets and answers as `CellsHead` does.

    Args:
        width: number of features.
        cells: number of classes.
        crs: of the cells' positions.
        options: of the head.
    """

    boxes_m: Tensor  # (K, 2, 2) float64, lowest and highest x, y of each cell

    def __init__(self, width: int, cells: int, crs: str, options: Hybrid) -> None:
        super().__init__(cells, crs, options)
        self.offset_weight = options.offset_weight
        self.cell = nn.Linear(width, cells)
        self.offset = nn.Linear(width, 2 * cells)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        self.register_buffer("boxes_m", torch.zeros(cells, 2, 2, dtype=torch.float64))

    def adapt(self, places: TrainingPlaces) -> None:
        """Learn which cells hold training records, where they are and how far they reach."""
        super().adapt(places)
        assert places.grid is not None
        bounds_m = places.grid.geometry.bounds.to_numpy()
        self.set_boxes(cell_boxes(self.cell_ids.cpu().numpy(), places.cell, places.xy_m, bounds_m))

    def set_boxes(self, boxes_m: NDArray[np.float64]) -> None:
        """Set how far the cells reach: `(K, 2, 2)` lowest and highest x, y in metres, as of `cell_boxes`."""
        self.boxes_m.copy_(torch.from_numpy(boxes_m))

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, 3K)`: logits, then x and y of each cell's offset."""
        return torch.cat([self.cell(features), self.offset(features)], dim=1)

    def logits(self, output: Tensor) -> Tensor:
        """Take the logits from the front of the output."""
        return output[:, : len(self.cell_ids)]

    def cells_m(self, output: Tensor) -> Tensor:
        """Compute each record's `(B, K, 2)` positions of the cells in metres, inside the cells' boxes."""
        offsets_m = self._offsets(output).to(torch.float64) * self._half_extents_m()
        return torch.clamp(self.positions_m + offsets_m, self.boxes_m[:, 0], self.boxes_m[:, 1])

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Compute the cross-entropy plus the weighted loss of the offset in the true cell; 0 where none is known."""
        known = self.known(batch)
        if not known.any():
            return output.sum() * 0
        label = batch.label[known]
        target = (batch.xy_m[known] - self.positions_m[label]) / self._half_extents_m()[label]
        offsets = self._offsets(output[known])
        own = offsets[torch.arange(len(label), device=label.device), label]  # (B, 2)
        return super().loss(output, batch) + self.offset_weight * F.smooth_l1_loss(own, target.to(own.dtype))

    def _offsets(self, output: Tensor) -> Tensor:
        return output[:, len(self.cell_ids) :].reshape(len(output), len(self.cell_ids), 2)  # (B, K, 2)

    def _half_extents_m(self) -> Tensor:
        return torch.clamp((self.boxes_m[:, 1] - self.boxes_m[:, 0]) / 2, min=1.0)  # (K, 2)


def cell_boxes(
    kept: NDArray[np.int64], cell: NDArray[np.int64], xy_m: NDArray[np.float64], bounds_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bound each kept cell's answers: its bounds, widened to its training records.

    A record on the shore can belong to the nearest cell and lie outside it.

    Args:
        kept: `(K,)` numbers of the cells.
        cell: `(N,)` cell of each training record.
        xy_m: `(N, 2)` training records in metres.
        bounds_m: `(C, 4)` lowest x, y and highest x, y of all cells in metres, by number, as
            `GeoSeries.bounds` gives them.

    Returns:
        `(K, 2, 2)` lowest and highest x, y in metres.
    """
    boxes = []
    for number in kept:
        low, high = bounds_m[number].reshape(2, 2)
        own = xy_m[cell == number]
        boxes.append(
            [np.minimum(low, own.min(axis=0, initial=np.inf)), np.maximum(high, own.max(axis=0, initial=-np.inf))]
        )
    return np.array(boxes)

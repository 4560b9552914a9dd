"""Geocells: which cell, and from the cells' probabilities where in the CRS."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from waymark.images.datamodule import Batch
from waymark.models.heads.adapter import Head, Place

Answer = Literal["mean", "best"]
Position = Literal["training", "centre"]


class CellsHead(Head):
    """Cross-entropy over the cells that hold training records.

    The answer is the mean of the cells' positions in the CRS, weighted with their
    probabilities, or the position of the most probable cell.

    Args:
        width: number of features.
        cells: number of classes.
        answer: `mean` or `best`.
    """

    cell_ids: Tensor
    positions_m: Tensor

    def __init__(self, width: int, cells: int, *, answer: Answer = "mean") -> None:
        super().__init__()
        self.answer = answer
        self.linear = nn.Linear(width, cells)
        self.register_buffer("cell_ids", torch.zeros(cells, dtype=torch.int64))
        self.register_buffer("positions_m", torch.zeros(cells, 2, dtype=torch.float64))

    def remember(self, cell_ids: NDArray[np.int64], positions_m: NDArray[np.float64]) -> None:
        """Keep the grid's number of each class and its `(K, 2)` position in metres."""
        self.cell_ids.copy_(torch.from_numpy(cell_ids))
        self.positions_m.copy_(torch.from_numpy(positions_m))

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, width)` features into `(B, K)` logits."""
        logits: Tensor = self.linear(features)
        return logits

    def known(self, batch: Batch) -> Tensor:
        """Mark the records whose cell is a class."""
        return batch.label >= 0

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Give the cross-entropy over the records whose cell is a class; 0 where none is."""
        known = self.known(batch)
        return F.cross_entropy(output[known], batch.label[known]) if known.any() else output.sum() * 0

    def place(self, output: Tensor) -> Place:
        """Answer with the weighted mean of the cells, or with the best."""
        choice = output.argmax(dim=1)
        if self.answer == "best":
            return Place(self.positions_m[choice], choice)
        weights = output.to(torch.float64).softmax(dim=1)  # (B, K)
        return Place(weights @ self.positions_m, choice)


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

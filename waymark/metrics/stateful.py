"""The same metrics as objects that sum rightly over batches and processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from waymark.metrics.functional import geoscore, haversine_km


class MeanHaversine(Metric):
    """Mean great-circle distance in km over all records, never a mean of batch means."""

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def _values(self, predicted: Tensor, target: Tensor) -> Tensor:
        return haversine_km(predicted, target)

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add a batch of `(N, 2)` latitude, longitude in degrees; rows with a NaN target don't count."""
        known = ~torch.isnan(target).any(dim=-1)
        self.total = self.total + self._values(predicted[known], target[known]).to(torch.float64).sum()
        self.count = self.count + known.sum()

    def compute(self) -> Tensor:
        """Give the mean over everything added; NaN where nothing was."""
        return self.total / self.count


class MeanGeoscore(MeanHaversine):
    """Mean GeoGuessr score over all records."""

    higher_is_better = True

    def _values(self, predicted: Tensor, target: Tensor) -> Tensor:
        return geoscore(haversine_km(predicted, target))

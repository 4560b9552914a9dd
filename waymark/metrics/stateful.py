"""The same metrics as objects that sum rightly over batches and processes."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from waymark.errors import ParameterError
from waymark.metrics.functional import geoscore, global_average_precision, haversine_km

MOST_ID = 2**53  # up to here float64 holds every whole number


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
        """Compute the mean over everything added; NaN where nothing was."""
        return self.total / self.count


class MeanGeoscore(MeanHaversine):
    """Mean GeoGuessr score over all records."""

    higher_is_better = True

    def _values(self, predicted: Tensor, target: Tensor) -> Tensor:
        return geoscore(haversine_km(predicted, target))


class GlobalAveragePrecision(Metric):
    """GAP of all answers in one ranking, never a mean of batches' GAPs.

    Equal scores are ordered by id and then by class, whatever order batches and processes come in. All states are
    float64, because torchmetrics replaces the states of a process without records with vectors of `dtype`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    correct: list[Tensor]
    ids: list[Tensor]
    classes: list[Tensor]
    relevant: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("scores", "correct", "ids", "classes"):
            self.add_state(name, [], dist_reduce_fx="cat")
        self.add_state("relevant", torch.tensor(0), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(
        self, scores: Tensor, correct: Tensor, ids: Tensor, relevant: int | Tensor, classes: Tensor | None = None
    ) -> None:
        """Add the answers to a batch of queries.

        Args:
            scores: `(N,)`, one for each answer; a query that is not answered has none.
            correct: `(N,)` whether the answer is one of the query's landmarks.
            ids: `(N,)` whole numbers in the order of the queries' ids, below 2^53.
            relevant: queries of the batch that have a landmark, answered or not.
            classes: `(N,)` whole numbers in the order of the answers' classes; decides where ids are equal, too.

        Raises:
            ParameterError: the vectors differ in length, or an id is too large to be kept exactly.
        """
        classes = torch.zeros_like(ids) if classes is None else classes
        columns = {"scores": scores, "correct": correct, "ids": ids, "classes": classes}
        if any(column.shape != (len(scores),) for column in columns.values()):
            shapes = ", ".join(f"{name} {tuple(column.shape)}" for name, column in columns.items())
            raise ParameterError(f"{shapes} do not fit: give vectors of one length, an entry for each answer")
        if max((int(column.abs().max()) for column in (ids, classes) if len(column)), default=0) > MOST_ID:
            raise ParameterError("ids and classes must lie below 2^53; number the queries in the order of their ids")
        for name, column in columns.items():
            getattr(self, name).append(column.detach().to(torch.float64))
        self.relevant = self.relevant + relevant

    def compute(self) -> Tensor:
        """Compute the GAP of everything added; NaN where no query has a landmark."""
        if not len(self.scores):
            nothing = torch.zeros(0, device=self.device)
            return global_average_precision(nothing, nothing, int(self.relevant))
        scores, correct, ids, classes = map(dim_zero_cat, (self.scores, self.correct, self.ids, self.classes))
        by_class = classes.argsort(stable=True)
        order = by_class[ids[by_class].argsort(stable=True)]
        return global_average_precision(scores[order], correct[order], int(self.relevant))

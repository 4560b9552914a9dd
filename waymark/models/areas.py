"""Answers as areas: sets of cells that hold the place with a promised chance."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from waymark.models.calibration import conformal_quantile
from waymark.system.untrusted import CLOSED

SHARES = (50, 90)  # per cent of new records whose place the area holds

Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Areas:
    """Split-conformal sets of cells: all that are at least so probable, and the most probable one.

    Of all sets with the promised coverage these are the smallest on average (Sadinle, Lei and Wasserman 2019, Least
    Ambiguous Set-Valued Classifiers with Bounded Error Levels, section 2).

    Args:
        least_50: probability from which on a cell is part of the area that holds half of the places; None where
            validation is too small to promise it.
        least_90: likewise for nine of ten.
    """

    __pydantic_config__: ClassVar[Any] = CLOSED

    least_50: Probability | None
    least_90: Probability | None

    def least(self, share: int) -> float | None:
        """Look up the probability for a share of `SHARES`."""
        return {50: self.least_50, 90: self.least_90}[share]


def fit_areas(chance: NDArray[np.float64]) -> Areas:
    """Learn the areas from the `(N,)` probabilities that validation records give their own cell.

    Args:
        chance: of the true cell; 0 where it is no class, so that no area but that of all cells holds it.

    >>> fit_areas(np.array([0.9, 0.1, 0.5]))
    Areas(least_50=0.5, least_90=None)
    """
    found = [conformal_quantile(-chance, share / 100) for share in SHARES]
    return Areas(*(None if quantile is None else max(0.0, -quantile) for quantile in found))


def members(probabilities: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Mark the `(N, K)` cells of each record's area."""
    highest = probabilities.max(axis=1, keepdims=True)
    marked: NDArray[np.bool_] = (probabilities >= least) | (probabilities == highest)
    return marked

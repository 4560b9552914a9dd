"""The most probable places of an answer, with their names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidate:
    """A place where a photo may have been taken.

    Args:
        latitude: in degrees.
        longitude: in degrees.
        probability: 0 to 1; None for models without cells.
        place: the largest town within 5 km, else such as "32 km north of Knin"; None beyond 100 km from any.
        region: first-order division that the nearest town lies in, None beyond 25 km from it or where it has none.
        country: that the place lies in; None at sea.
    """

    latitude: float
    longitude: float
    probability: float | None
    place: str | None = None
    region: str | None = None
    country: str | None = None


def named_candidates(places: NDArray[np.float64]) -> tuple[Candidate, ...]:
    """Name candidates offline.

    Args:
        places: `(K, 3)` latitude, longitude in degrees and probability, NaN without one; the best first.

    Returns:
        `(K,)` candidates, without those whose place is NaN.

    >>> named_candidates(np.array([[45.813, 15.977, 0.5]]))[0].place
    'Zagreb'
    """
    from waymark.geo.gazetteer import nearest_places  # late: its data take a second to read

    known = places[np.isfinite(places[:, :2]).all(axis=1)]
    return tuple(
        Candidate(latitude, longitude, None if np.isnan(probability) else probability, *name[:3])
        for (latitude, longitude, probability), name in zip(known.tolist(), nearest_places(known[:, :2]), strict=True)
    )


def candidate_columns(candidates: Sequence[Sequence[Candidate]], top_k: int) -> pd.DataFrame:
    """Spread candidates over columns.

    Args:
        candidates: `(N,)` of each answer, the best first.
        top_k: number of candidates that get columns.

    Returns:
        `(N, 6 * top_k)` columns `candidate_1_latitude`, `_longitude`, `_probability`, `_place`, `_region`, `_country`
        and so on; empty where there are fewer candidates.
    """
    names = list(Candidate.__dataclass_fields__)
    rows = [
        {
            f"candidate_{rank}_{name}": getattr(candidate, name)
            for rank, candidate in enumerate(few[:top_k], start=1)
            for name in names
        }
        for few in candidates
    ]
    columns = [f"candidate_{rank}_{name}" for rank in range(1, top_k + 1) for name in names]
    return pd.DataFrame(rows, columns=columns, index=range(len(candidates)))

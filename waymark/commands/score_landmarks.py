"""Metrics of anybody's recognised landmarks."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from waymark.commands.tables import EMPTY, Rows, Scored, check_missing
from waymark.data.names import one_form
from waymark.errors import SourceError
from waymark.metrics.figures import landmark_figures
from waymark.metrics.intervals import landmark_intervals

MANY, ONE = "landmarks", "landmark"  # columns of the truth
ANSWERS = ("predicted_landmark", "landmark")
SCORES = ("score", "landmark_score")
BEST = ("best_landmark",)


def asks_landmarks(truth: Rows) -> bool:
    """Check whether any row of the truth has a landmark."""
    return any(_truths(truth))


def gives_landmarks(predictions: Rows) -> bool:
    """Check whether the predictions have landmarks; "no landmark" is an answer, too."""
    return predictions.column(SCORES) is not None or predictions.column(ANSWERS) is not None


def score_landmarks(predictions: Rows, truth: Rows, *, allow_missing: bool) -> Scored:
    """Compute the metrics of recognised landmarks, with intervals.

    A truth without prediction is a query without an answer, and an answer to a picture without a landmark lowers the
    precision (Weyand et al. 2020, Google Landmarks Dataset v2, section 5.2).

    Raises:
        SourceError: no id in common, a truth without prediction, or an answer without a score.
    """
    check_missing(predictions, truth, truth.ids.intersection(predictions.ids), allow_missing=allow_missing)
    rows = _rows(predictions, truth)
    figures = landmark_figures(rows)
    unknown = {"top5"} if predictions.column(BEST) is not None else {"top5", "gap_unrejected"}
    missing = int((~truth.ids.isin(predictions.ids)).sum())
    summed = {"records": len(rows), "missing": missing, **figures}
    known = {name: value for name, value in summed.items() if name not in unknown}
    return Scored(known, landmark_intervals(rows).figures, truth.ids)


def _rows(predictions: Rows, truth: Rows) -> pd.DataFrame:
    """Make rows like those of predictions.parquet."""
    answers = predictions.texts(predictions.table.needed(ANSWERS, "landmark"))
    scores = predictions.table.needed(SCORES, "landmark_score")
    best = predictions.column(BEST)
    given = pd.DataFrame(
        {
            "predicted_landmark": answers,
            "best_landmark": answers if best is None else predictions.texts(best),
            "score": predictions.numbers(scores),
        }
    )
    unranked = given[given["best_landmark"].notna() & given["score"].isna()]
    if len(unranked):
        raise SourceError(
            f"{predictions.path}: the answer {unranked['best_landmark'].iloc[0]!r} for {unranked.index[0]!r} has no"
            f" number in {scores}; GAP ranks answers by it"
        )
    rows = pd.DataFrame({"landmarks": pd.Series(_truths(truth), truth.ids, dtype=object)}).join(given)
    right = [name in true for name, true in zip(rows["best_landmark"], rows["landmarks"], strict=True)]
    return rows.assign(rank=np.where(right, 1.0, np.nan)).rename_axis("record_id").reset_index()


def _truths(truth: Rows) -> list[list[str]]:
    """Read the landmarks of each row; as text they are separated by spaces, as in Google Landmarks."""
    if (many := truth.table.find([MANY])) is not None:
        return [_listed(cell) for cell in truth.cells(many)]
    if (one := truth.table.find([ONE])) is not None:
        return [[] if name is None else [name] for name in truth.texts(one)]
    return [[] for _ in truth.ids]


def _listed(cell: Any) -> list[str]:
    if isinstance(cell, Iterable) and not isinstance(cell, (str, bytes)):
        return [one_form(str(name)) for name in cell]
    return [] if str(cell).strip().lower() in EMPTY else one_form(str(cell)).split()

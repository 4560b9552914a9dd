"""What every figure of landmarks is made of: queries, their answers, and which of these are right."""

from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.errors import ParameterError

Relevant = Literal["all", "known"]


def queries_of(predictions: pd.DataFrame, relevant: Relevant = "all") -> pd.DataFrame:
    """Compare the answers of one split with the truth.

    Args:
        predictions: `(N,)` rows of predictions.parquet, of one split.
        relevant: which records count as queries: `all` that have a landmark, or those of which the model knows one from
            training (`known`, as in the Kaggle challenges), whose `rank` is not null. The others stay in the ranking.

    Returns:
        `(N,)` rows in ascending order of `record_id`, with `landmark` (the first true one, null without), `counts`
        (is a query), `score`, `confidence` (NaN where the predictions have none), `best` (answer before rejection),
        `guessed` and `guessed_right` (has such an answer, it is a true one), `answered` and `answered_right` (the same
        after rejection), `top1` and `top5` (counts, and a true landmark is among the best so many candidates).

    Raises:
        ParameterError: relevant is neither `all` nor `known`, or an answer has no score.
    """
    if relevant not in get_args(Relevant):
        raise ParameterError(f"relevant: {relevant!r} is neither 'all' nor 'known'; say which queries count")
    rows = predictions.sort_values("record_id", kind="stable", ignore_index=True)
    truths = [_labels(cell) for cell in rows["landmarks"]]
    rank = _numbers(rows["rank"])
    counts = np.array([bool(truth) for truth in truths], dtype=bool)
    if relevant == "known":
        counts &= np.isfinite(rank)
    queries = pd.DataFrame(
        {
            "record_id": rows["record_id"],
            "landmark": pd.Series([next(iter(truth), None) for truth in truths], dtype=object),
            "counts": counts,
            "score": _numbers(rows["score"]),
            "confidence": _numbers(rows["confidence"]) if "confidence" in rows else np.nan,
            "best": rows["best_landmark"].astype(object),
            "guessed": rows["best_landmark"].notna(),
            "guessed_right": _right(rows["best_landmark"], truths),
            "answered": rows["predicted_landmark"].notna(),
            "answered_right": _right(rows["predicted_landmark"], truths),
            "top1": counts & (rank <= 1),
            "top5": counts & (rank <= 5),
        }
    )
    _check_scores(queries)
    return queries


def ranked(queries: pd.DataFrame) -> pd.DataFrame:
    """Bring queries into the order of a ranking: the highest score first, ties by record_id, without an answer last."""
    return queries.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _labels(cell: Any) -> list[str]:
    """Read a list of landmarks, an array of them, or null."""
    return list(cell) if isinstance(cell, Iterable) and not isinstance(cell, str) else []


def _right(answers: "pd.Series[str]", truths: list[list[str]]) -> NDArray[np.bool_]:
    known = answers.notna()
    right = [is_one and answer in truth for is_one, answer, truth in zip(known, answers, truths, strict=True)]
    return np.array(right, dtype=bool)


def _numbers(column: "pd.Series[Any]") -> NDArray[np.float64]:
    """Read numbers of any type, with NaN for null."""
    return pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)


def _check_scores(queries: pd.DataFrame) -> None:
    unranked = queries.loc[(queries["guessed"] | queries["answered"]) & queries["score"].isna(), "record_id"]
    if len(unranked):
        raise ParameterError(
            f"{len(unranked)} answers have no score, such as that of {unranked.iloc[0]!r}, and cannot be ranked;"
            " the model that gave them has diverged, or its predictions were cut: evaluate it again"
        )

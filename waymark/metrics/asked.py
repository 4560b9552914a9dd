"""What a landmark model was asked, what it said, and what saying always the same would have come to."""

from collections.abc import Iterable

import pandas as pd

from waymark.metrics.queries import Relevant, queries_of

Asked = dict[str, float | int | None]


def asked_of(predictions: pd.DataFrame, train: "pd.Series[int]", relevant: Relevant = "all") -> Asked:
    """Count what a model was asked and said, over the records of one split.

    Args:
        predictions: `(N,)` rows of predictions.parquet, of one split.
        train: training images by landmark.
        relevant: which records count as queries, see `waymark.metrics.queries.queries_of`.

    Returns:
        `records`; `without`, those that show no landmark; `named`, those that were given a name; `named_right`;
        `named_without`, those that were given one and show none; `chance_top1`, the share of the queries that always
        naming the landmark with most training images, the first of equals, gets right (None without queries).
    """
    queries = queries_of(predictions, relevant)
    without = queries["landmark"].isna()
    counted = set(queries.loc[queries["counts"], "record_id"])
    most = train.sort_index().idxmax() if len(train) else None
    rows = predictions[predictions["record_id"].isin(counted)]
    shown = [most in cell if isinstance(cell, Iterable) else False for cell in rows["landmarks"]]
    return {
        "records": len(queries),
        "without": int(without.sum()),
        "named": int(queries["answered"].sum()),
        "named_right": int(queries["answered_right"].sum()),
        "named_without": int((queries["answered"] & without).sum()),
        "chance_top1": sum(shown) / len(shown) if shown else None,
    }

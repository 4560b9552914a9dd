"""Pictures of landmarks for the report: answers to look at, and what is taken for what."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tasks.reporting.gallery import pictures_of
from tasks.training.landmark_classes import first_landmark
from waymark.images.shards import Shards
from waymark.metrics.landmarks import confused_pairs
from waymark.metrics.queries import Relevant, queries_of, ranked


def landmark_gallery(
    predictions: pd.DataFrame, table: pd.DataFrame, shards: Shards, names: Mapping[str, str], count: int
) -> dict[str, list[dict[str, Any]]]:
    """Choose the surest right and the surest wrong answers on test, with their pictures.

    Returns:
        `best` and `worst`, each as `record_id`, `truth` (names, none for a picture without a landmark), `answered`
        (a name), `score`, `confidence` (null where unknown), `right` and `pictures`.
    """
    test = predictions[predictions["split"] == "test"]
    answers = ranked(queries_of(test)).query("answered")
    truths, views = test.set_index("record_id")["landmarks"], table.set_index("record_id")["views"]

    def shown(row: Any) -> dict[str, Any]:
        return {
            "record_id": row.record_id,
            "truth": [names.get(its, its) for its in truths[row.record_id]],
            "answered": names.get(row.best, row.best),
            "score": row.score,
            "confidence": None if math.isnan(row.confidence) else row.confidence,
            "right": bool(row.answered_right),
            "pictures": pictures_of(row.record_id, views[row.record_id], shards),
        }

    chosen = {"best": answers[answers["answered_right"]], "worst": answers[~answers["answered_right"]]}
    return {kind: [shown(row) for row in rows.head(count).itertuples()] for kind, rows in chosen.items()}


def confusions(
    predictions: pd.DataFrame, landmarks: pd.DataFrame, relevant: Relevant, table: pd.DataFrame, shards: Shards
) -> list[dict[str, Any]]:
    """List the pairs that are confused most often on test, with a picture of either side.

    Args:
        predictions: rows of predictions.parquet.
        landmarks: data/split/landmarks.parquet.
        relevant: which records count.
        table: records of all splits.
        shards: pictures.

    Returns:
        `true`, `true_name`, `answered`, `answered_name`, `count`, `examples` (ids of the records), and `pictures`: the
        first view of the surest of these, and of a training record of the landmark that it was taken for.
    """
    pairs = confused_pairs(predictions[predictions["split"] == "test"], landmarks, relevant)
    train = table[table["split"] == "train"]
    training = train.groupby(first_landmark(train), sort=False)["record_id"].first()
    views = table.set_index("record_id")["views"]
    return [
        {
            **{
                "true": pair.landmark,
                "true_name": pair.name,
                "answered": pair.answer,
                "answered_name": pair.answer_name,
            },
            **{"count": pair.records, "examples": list(pair.examples)},
            "pictures": [
                {"record_id": its, **picture}
                for its in (pair.examples[0], training.get(pair.answer))
                if its is not None
                for picture in pictures_of(its, views[its], shards)[:1]
            ],
        }
        for pair in pairs.rename(columns={"count": "records"}).itertuples(index=False)
    ]

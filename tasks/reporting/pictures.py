"""Pictures of records for the report: guesses to look at, what is taken for what, and where a model looks."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from tasks.training.attention import STEPS
from tasks.training.landmark_classes import first_landmark
from tasks.training.tables import headings, open_shards, read_table
from waymark.images.decode import jpeg_bytes
from waymark.metrics.landmarks import confused_pairs
from waymark.metrics.queries import Relevant, queries_of, ranked
from waymark.report.content import Confusion, Guess, LandmarkGuess, Picture
from waymark.report.heat import draw_attention

TILE_PX = 192  # least side of a picture under its map
PLACES = ("latitude", "longitude", "predicted_latitude", "predicted_longitude")


class Pictures:
    """The pictures of all records, as the networks see them."""

    def __init__(self) -> None:
        self.table, self.shards = read_table(), open_shards()
        self._views = self.table.set_index("record_id")["views"]

    def of(self, record_id: str) -> list[Picture]:
        """Encode the pictures of a record, each with its heading."""
        return [
            Picture(jpeg_bytes(self.shards[record_id, view]), "" if heading is None else f"{heading:g}°")
            for view, heading in enumerate(headings(self._views[record_id]))
            if (record_id, view) in self.shards
        ]


def place_guesses(test: pd.DataFrame, pictures: Pictures, count: int) -> tuple[list[Guess], list[Guess]]:
    """Choose the best and the worst guesses among rows of predictions.parquet."""
    order = test[test["distance_km"].notna()].sort_values(["distance_km", "record_id"])
    best, worst = (
        [
            Guess(
                row["record_id"],
                row["distance_km"],
                *(row[name] for name in PLACES),
                None if np.isnan(row["radius_90_km"]) else row["radius_90_km"],
                pictures.of(row["record_id"]),
            )
            for row in rows.to_dict("records")
        ]
        for rows in (order.head(count), order.iloc[::-1].head(count))
    )
    return best, worst


def landmark_guesses(
    test: pd.DataFrame, names: Mapping[str, str], pictures: Pictures, count: int
) -> tuple[list[LandmarkGuess], list[LandmarkGuess]]:
    """Choose the surest right and the surest wrong answers among rows of predictions.parquet.

    Args:
        test: rows of one split.
        names: of landmarks, by id.
        pictures: of the records.
        count: how many of each.
    """
    answers = ranked(queries_of(test)).query("answered")
    truths = test.set_index("record_id")["landmarks"]

    def shown(row: Any) -> LandmarkGuess:
        return LandmarkGuess(
            row.record_id,
            [names.get(landmark, landmark) for landmark in truths[row.record_id]],
            names.get(row.best, row.best),
            row.score,
            bool(row.answered_right),
            pictures.of(row.record_id),
            None if math.isnan(row.confidence) else row.confidence,
        )

    right = answers["answered_right"]
    best, worst = ([shown(row) for row in rows.head(count).itertuples()] for rows in (answers[right], answers[~right]))
    return best, worst


def confusions(
    test: pd.DataFrame, landmarks: pd.DataFrame, relevant: Relevant, pictures: Pictures
) -> tuple[pd.DataFrame, list[Confusion]]:
    """List the pairs that are confused most often.

    Args:
        test: rows of predictions.parquet, of one split.
        landmarks: data/split/landmarks.parquet.
        relevant: which records count.
        pictures: of the records.

    Returns:
        The pairs as `waymark.metrics.landmarks.confused_pairs` counts them, and each with the first view of its surest
        record, and of a training record of the landmark that it was taken for.
    """
    pairs = confused_pairs(test, landmarks, relevant)
    train = pictures.table[pictures.table["split"] == "train"]
    training = train.groupby(first_landmark(train), sort=False)["record_id"].first()
    shown = [
        Confusion(
            *(pair["landmark"], pair["name"], pair["answer"], pair["answer_name"], pair["count"]),
            [
                Picture(picture.encoded, record_id)
                for record_id in (pair["examples"][0], training.get(pair["answer"]))
                if record_id is not None
                for picture in pictures.of(record_id)[:1]
            ],
        )
        for pair in pairs.to_dict("records")
    ]
    return pairs, shown


def attention_pictures(path: Path, record_ids: Sequence[str], pictures: Pictures) -> list[Picture]:
    """Draw attention.parquet over the pictures of some records."""
    maps = pq.read_table(path, filters=[("record_id", "in", list(record_ids))]).to_pylist() if record_ids else []
    order = {record_id: place for place, record_id in enumerate(record_ids)}
    return [_drawn(row, pictures) for row in sorted(maps, key=lambda row: order[row["record_id"]])]


def _drawn(row: Mapping[str, Any], pictures: Pictures) -> Picture:
    picture = Image.fromarray(pictures.shards[row["record_id"], row["view"]])
    side_px = max(TILE_PX, picture.width)
    pixels = np.asarray(picture.resize((side_px, side_px), Image.Resampling.BICUBIC))
    attention = np.array(row["attention"], dtype=np.float32).reshape(row["height"], row["width"]) / STEPS
    return Picture(jpeg_bytes(draw_attention(pixels, attention)), f"{row['record_id']}, view {row['view'] + 1}")

"""Tables that look closer at landmarks: of one model, and of the data."""

from collections.abc import Mapping, Sequence

import pandas as pd

from waymark.report.content import Model
from waymark.report.counts import MOST_LANDMARKS
from waymark.report.tables import LANDMARKS, Column, Row, Table, cells_of

FIGURES = (LANDMARKS[0], Column("gap_unrejected", "GAP, never refusing", "score"), *LANDMARKS[1:])
PARTS = (
    Column("landmarks", "landmarks", "count"),
    Column("training_images", "training images", "count"),
    Column("queries", "queries", "count"),
    Column("top1", "top 1", "share"),
    Column("top5", "top 5", "share"),
    Column("gap", "GAP", "score"),
)
SPLITS = (
    Column("landmarks", "landmarks", "count"),
    Column("records", "records with a landmark", "count"),
    Column("unknown", "landmarks unknown to training", "count"),
    Column("unknown_records", "their records", "count"),
)
SIZES = (Column("records", "records", "count"),)

_PARTS = ("train", "val", "test")


def figures_of(model: Model) -> Table:
    """The figures of one model by split."""
    rows = [
        Row(split, cells_of(figures, FIGURES, model.intervals.get(split, {})))
        for split in ("test", "val")
        for figures in [model.metrics.get(split, {})]
    ]
    return Table("Landmarks it names", FIGURES, {"": rows}, rows="split")


def parts_table(parts: pd.DataFrame) -> Table:
    """Landmarks with many, with some and with few training images."""
    rows = [Row(str(values["part"]), cells_of(values, PARTS)) for values in parts.to_dict("records")]
    return Table("By the number of training images of the landmark, on test", PARTS, {"": rows}, rows="part")


def splits_table(landmarks: pd.DataFrame) -> Table:
    """How many landmarks and records each split has, and how many of them training does not know.

    Args:
        landmarks: columns `landmark`, `train`, `val`, `test` (records).
    """
    unknown = landmarks["train"] == 0
    rows = []
    for split in _PARTS:
        there = landmarks[split] > 0
        figures = {"landmarks": int(there.sum()), "records": int(landmarks[split].sum())}
        if split != "train":
            figures |= {
                "unknown": int((there & unknown).sum()),
                "unknown_records": int(landmarks.loc[unknown, split].sum()),
            }
        rows.append(Row(split, cells_of(figures, SPLITS)))
    return Table("Landmarks by split", SPLITS, {"": rows}, rows="split")


def largest_table(landmarks: pd.DataFrame) -> Table:
    """Records of the 100 largest landmarks by split.

    Args:
        landmarks: columns `landmark`, `name`, `train`, `val`, `test` (records).
    """
    total = landmarks[[*_PARTS]].sum(axis=1)
    ordered = landmarks.assign(total=total).sort_values(["total", "landmark"], ascending=[False, True])
    columns = tuple(Column(split, split, "count") for split in _PARTS)
    rows = [
        Row(str(values["landmark"] if pd.isna(values["name"]) else values["name"]), cells_of(values, columns))
        for values in ordered.head(MOST_LANDMARKS).to_dict("records")
    ]
    hidden = max(0, len(ordered) - MOST_LANDMARKS)
    return Table(
        "Records of each landmark, the largest first", columns, {"": rows}, rows="landmark", hidden=hidden, folded=True
    )


def sizes_table(sizes: Sequence[Mapping[str, int]]) -> Table:
    """The commonest sizes of pictures."""
    rows = [Row(f"{size['width']:,} × {size['height']:,} px", cells_of(size, SIZES)) for size in sizes]
    return Table("Commonest sizes", SIZES, {"": rows}, rows="size")

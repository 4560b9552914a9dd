"""Assign records to train, val and test."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass

from tasks.common.outputs import whole_folder, write_json
from tasks.common.stage import STRICT, Stage
from waymark.data import splits
from waymark.data.duplicates import Looks, copies_between, looks_of
from waymark.data.records import read_records, write_table
from waymark.errors import SplitError
from waymark.images.statistics import channel_statistics
from waymark.options.kinds import BufferM, Fraction, Seed, SpacingM

logger = logging.getLogger(__name__)

RECORDS = Path("data/filtered/records.parquet")
LANDMARKS = Path("data/filtered/landmarks.parquet")
INDEX = Path("data/shards/index.parquet")
PLACES = Path("data/projected/places.parquet")
SPLIT = Path("data/split")
SPLIT_SCHEMA = pa.schema([("record_id", pa.string()), ("split", pa.string()), ("reason", pa.string())])
COUNTS_SCHEMA = pa.schema(
    [("landmark", pa.string()), ("name", pa.string()), *((split, pa.int64()) for split in splits.SPLITS)]
)


@dataclass(frozen=True, config=STRICT)
class Split:
    """Section `split` of params.yaml.

    Args:
        by: hash (stable when data grows), stratified (exact in each landmark), blocks (separated in space), or column
            (the split of the data; if it has no val, part of its train becomes val).
        fractions: shares of train, val and test.
        seed: another seed gives another split.
        block_m: side of the squares of `blocks`.
        buffer_m: width of the buffer zone around val and test of `blocks`, excluded from training.
        duplicates: handling of training records that are near-duplicates of val or test: yield (left unused), keep,
            or null: yield, except for `column`, whose split is left as it is.
    """

    by: Literal["hash", "stratified", "blocks", "column"]
    fractions: tuple[Fraction, Fraction, Fraction]
    seed: Seed = 1
    block_m: SpacingM = 20_000.0
    buffer_m: BufferM = 2_000.0
    duplicates: Literal["yield", "keep"] | None = None

    @property
    def copies_yield(self) -> bool:
        """Whether training copies of val and test are left unused."""
        return self.duplicates == "yield" or (self.duplicates is None and self.by != "column")


STAGE = Stage("split", Split, check=lambda settings: splits.check_fractions(settings.fractions))


def split(settings: Split) -> None:
    """Assign records to train, val and test."""
    records = read_records(RECORDS).to_pandas()
    records["group"] = records["group"].fillna(records["record_id"])
    stored = pq.read_table(INDEX)
    looks = looks_of(stored, records["record_id"].tolist())
    division = pd.DataFrame({"record_id": records["record_id"], "split": "unused", "reason": "no picture"})
    division.loc[looks.pictured, ["split", "reason"]] = _divide(records[looks.pictured], settings)
    _warn_of_shared_groups(records["group"], division["split"])
    _look_for_copies(division, looks, settings)
    counts = Counter(division["split"])
    if not counts["train"]:
        raise SplitError("no record is left in train; raise the first of split.fractions or change split.by")
    with whole_folder(SPLIT) as folder:
        table = pa.Table.from_pandas(division, SPLIT_SCHEMA, preserve_index=False)
        write_table(table.replace_schema_metadata(None), folder / "records.parquet")
        write_table(_count_landmarks(records["landmarks"], division["split"]), folder / "landmarks.parquet")
        train = division.loc[division["split"] == "train", "record_id"]
        size_px = int(stored.schema.metadata[b"size_px"])
        write_json(channel_statistics(stored.to_pandas(), train, size_px), folder / "statistics.json")
    logger.info(", ".join(f"{name} {counts[name]}" for name in (*splits.SPLITS, "unused")))


def _divide(records: pd.DataFrame, settings: Split) -> pd.DataFrame:
    division = pd.DataFrame({"split": "", "reason": settings.by}, index=records.index)
    groups = records["group"].tolist()
    if settings.by == "column":
        division["split"] = splits.from_column(
            [value if isinstance(value, str) else None for value in records["split"]]
        )
        division.loc[division["split"] == "unused", "reason"] = "column: empty"
        if "val" not in set(division["split"]) and settings.fractions[1] > 0:
            _draw_val(records, division, settings)
    elif settings.by == "stratified":
        first = [landmarks[0] if len(landmarks) else "" for landmarks in records["landmarks"]]
        classes = dict(
            zip(reversed(groups), reversed(first), strict=True)
        )  # the first record of a group defines its class
        assigned = splits.stratified(classes, settings.fractions, settings.seed, Counter(groups))
        division["split"] = [assigned[group] for group in groups]
    else:
        assigned = splits.by_hash(groups, settings.fractions, settings.seed)
        division["split"] = [assigned[group] for group in groups]
        if settings.by == "blocks":
            _divide_places(records, division, settings)
    return division


def _draw_val(records: pd.DataFrame, division: pd.DataFrame, settings: Split) -> None:
    """Take val from train if the data has none, in the way in which its test was taken.

    If groups are on both sides single records are drawn, else whole groups: val must be as similar to train as test
    is.
    """
    train = division["split"] == "train"
    test = set(records.loc[division["split"] == "test", "group"])
    torn = bool(test.intersection(records.loc[train, "group"]))
    units = records.loc[train, "record_id" if torn else "group"].tolist()
    whole = settings.fractions[0] + settings.fractions[1]
    shares = (settings.fractions[0] / whole, settings.fractions[1] / whole, 0.0)
    assigned = splits.by_hash(units, shares, settings.seed)
    division.loc[train, "split"] = [assigned[unit] for unit in units]
    division.loc[division["split"] == "val", "reason"] = "column: drawn from train"
    logger.warning("the data has no val; %d records of train become val", (division["split"] == "val").sum())


def _divide_places(records: pd.DataFrame, division: pd.DataFrame, settings: Split) -> None:
    """Assign records that have a place to the block of their group's first place; the others keep their hash split."""
    places = pd.read_parquet(PLACES).set_index("record_id")
    placed = records[records["record_id"].isin(places.index)]
    if placed.empty:
        raise SplitError("split.by is blocks, but no record has coordinates; use hash, stratified or column")
    of_group = placed.drop_duplicates("group").set_index("group")["record_id"]
    anchors = places.loc[of_group[placed["group"]], ["x_m", "y_m"]].to_numpy()
    its_split = splits.by_blocks(anchors, block_m=settings.block_m, fractions=settings.fractions, seed=settings.seed)
    of_split = dict(zip(placed["group"], its_split, strict=True))
    grouped = records["group"].isin(of_split)  # including records without a place
    division.loc[grouped, "split"] = records.loc[grouped, "group"].map(of_split)
    own = places.loc[placed["record_id"], ["x_m", "y_m"]].to_numpy()
    strip = placed.index[splits.within_buffer(own, its_split, settings.buffer_m)]
    division.loc[strip, ["split", "reason"]] = ["unused", f"within {settings.buffer_m:g} m of val or test"]


def _warn_of_shared_groups(groups: "pd.Series[str]", split: "pd.Series[str]") -> None:
    """Warn if a group is on both sides, which only happens with the split of the data."""
    sides = pd.DataFrame({"group": groups, "split": split})[split != "unused"].drop_duplicates()["group"].value_counts()
    shared = sides.index[sides > 1]
    if len(shared):
        held_out = int((groups.isin(shared) & split.isin(["val", "test"])).sum())
        logger.warning(
            "the split leaks: %d groups are in several splits, with %d records of val and test; metrics are too good",
            len(shared),
            held_out,
        )


def _look_for_copies(division: pd.DataFrame, looks: Looks, settings: Split) -> None:
    """Leave the training copies of val and test unused, or report how many there are."""
    split = division["split"].to_numpy()
    train, held_out = np.flatnonzero(split == "train"), np.flatnonzero(np.isin(split, ["val", "test"]))
    copies = train[copies_between(looks, held_out, train).copied]
    if settings.copies_yield:
        division.loc[copies, ["split", "reason"]] = ["unused", "near-duplicate of a record in val or test"]
    elif len(copies):
        logger.warning(
            "the split leaks: train has %d near-duplicates of val or test; set split.duplicates to yield"
            " to leave them out",
            len(copies),
        )


def _count_landmarks(landmarks: "pd.Series[Any]", split: "pd.Series[str]") -> pa.Table:
    """Count the records of each split by their first landmark, which is the training label."""
    first = landmarks.str[0]
    shown = pd.crosstab(first, split).reindex(columns=list(splits.SPLITS), fill_value=0)
    shown = shown[shown.sum(axis=1) > 0].sort_index()
    names = pq.read_table(LANDMARKS).to_pandas().set_index("landmark")["name"]
    table = shown.rename_axis("landmark").reset_index().assign(name=names.reindex(shown.index).to_numpy())
    return pa.Table.from_pandas(table, COUNTS_SCHEMA, preserve_index=False).replace_schema_metadata(None)


if __name__ == "__main__":
    STAGE.main(split)

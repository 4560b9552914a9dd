"""Say which records are trained on, choose the model, or test it."""

import logging
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.outputs import whole_folder, write_json
from tasks.stage import STRICT, Stage
from waymark import splits
from waymark.errors import SplitError
from waymark.images.statistics import channel_statistics
from waymark.records import read_records, write_table

logger = logging.getLogger(__name__)

RECORDS = Path("data/filtered/records.parquet")
INDEX = Path("data/shards/index.parquet")
PLACES = Path("data/projected/places.parquet")
SPLIT = Path("data/split")
SPLIT_SCHEMA = pa.schema([("record_id", pa.string()), ("split", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True, config=STRICT)
class Split:
    """Section `split` of params.yaml.

    Args:
        by: hash (stable when data grows), stratified (exact in each landmark), blocks
            (apart in space), or column (what the data brings along).
        fractions: shares of train, val and test.
        seed: another seed is another division.
        block_m: side of the squares of `blocks`.
        buffer_m: strip of nobody around val and test of `blocks`.
    """

    by: Literal["hash", "stratified", "blocks", "column"]
    fractions: tuple[float, float, float]
    seed: int = 1
    block_m: Annotated[float, Field(gt=0)] = 20_000.0
    buffer_m: Annotated[float, Field(ge=0)] = 2_000.0


STAGE = Stage("split", Split, check=lambda settings: splits.check_fractions(settings.fractions))


def split(settings: Split) -> None:
    """Say which records are trained on, choose the model, or test it."""
    records = read_records(RECORDS).to_pandas()
    records["group"] = records["group"].fillna(records["record_id"])
    stored = pq.read_table(INDEX)
    index, size_px = stored.to_pandas(), int(stored.schema.metadata[b"size_px"])
    hashes = joined_hashes(index)
    pictured = records["record_id"].isin(hashes.index)
    division = pd.DataFrame({"record_id": records["record_id"], "split": "unused", "reason": "no picture"})
    division.loc[pictured, ["split", "reason"]] = _divide(records[pictured], settings)
    _free_of_copies(division, hashes)
    counts = Counter(division["split"])
    if not counts["train"]:
        raise SplitError("no record is left to train on; raise the first of split.fractions or change split.by")
    with whole_folder(SPLIT) as folder:
        table = pa.Table.from_pandas(division, SPLIT_SCHEMA, preserve_index=False)
        write_table(table.replace_schema_metadata(None), folder / "records.parquet")
        train = division.loc[division["split"] == "train", "record_id"]
        write_json(channel_statistics(index, train, size_px), folder / "statistics.json")
    logger.info(", ".join(f"{name} {counts[name]}" for name in (*splits.SPLITS, "unused")))


def joined_hashes(index: pd.DataFrame) -> "pd.Series[str]":
    """Join the perceptual hashes of the views of each record that has any."""
    usable = index[index["status"] == "ok"].sort_values(["record_id", "view"])
    return usable.groupby("record_id")["perceptual_hash"].agg("".join)


def _divide(records: pd.DataFrame, settings: Split) -> pd.DataFrame:
    division = pd.DataFrame({"split": "", "reason": settings.by}, index=records.index)
    groups = records["group"].tolist()
    if settings.by == "column":
        division["split"] = splits.from_column(
            [value if isinstance(value, str) else None for value in records["split"]]
        )
        division.loc[division["split"] == "unused", "reason"] = "column: empty"
    elif settings.by == "stratified":
        first = [landmarks[0] if len(landmarks) else "" for landmarks in records["landmarks"]]
        classes = dict(zip(reversed(groups), reversed(first), strict=True))  # a group's first record names its class
        assigned = splits.stratified(classes, settings.fractions, settings.seed)
        division["split"] = [assigned[group] for group in groups]
    else:
        assigned = splits.by_hash(groups, settings.fractions, settings.seed)
        division["split"] = [assigned[group] for group in groups]
        if settings.by == "blocks":
            _divide_places(records, division, settings)
    return division


def _divide_places(records: pd.DataFrame, division: pd.DataFrame, settings: Split) -> None:
    """Put the records that have a place where their group's first place lies; the others stay with the hash."""
    places = pd.read_parquet(PLACES).set_index("record_id")
    placed = records[records["record_id"].isin(places.index)]
    if placed.empty:
        raise SplitError("split.by is blocks, but no record has coordinates; use hash, stratified or column")
    of_group = placed.drop_duplicates("group").set_index("group")["record_id"]
    anchors = places.loc[of_group[placed["group"]], ["x_m", "y_m"]].to_numpy()
    its_split = splits.by_blocks(anchors, block_m=settings.block_m, fractions=settings.fractions, seed=settings.seed)
    of_split = dict(zip(placed["group"], its_split, strict=True))
    grouped = records["group"].isin(of_split)  # also those of its records that have no place themselves
    division.loc[grouped, "split"] = records.loc[grouped, "group"].map(of_split)
    own = places.loc[placed["record_id"], ["x_m", "y_m"]].to_numpy()
    strip = placed.index[splits.within_buffer(own, its_split, settings.buffer_m)]
    division.loc[strip, ["split", "reason"]] = ["unused", f"within {settings.buffer_m:g} m of val or test"]


def _free_of_copies(division: pd.DataFrame, hashes: "pd.Series[str]") -> None:
    copies = splits.near_duplicates(
        hashes.reindex(division["record_id"]).fillna("").tolist(), division["split"].tolist()
    )
    division.loc[copies, ["split", "reason"]] = ["unused", "near-duplicate of a record in val or test"]


if __name__ == "__main__":
    STAGE.main(split)

"""Train a model again on a split by place: how much of its error does a random split hide?"""

import json
import logging
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from tasks.common.outputs import read_json, whole_folder, work_folder, write_json
from tasks.common.stage import STRICT, Stage
from tasks.training.certainty import Calibrate, learn_certainty
from tasks.training.evaluation import HELD_OUT, by_split
from tasks.training.models import ModelEntry
from tasks.training.predictions import predict, write_predictions
from tasks.training.setup import prepare, train_locator
from tasks.training.tables import INPUTS, SHARDS, about_embeddings, open_views, places_of, read_table
from waymark.data import splits
from waymark.data.duplicates import copies_between, looks_of
from waymark.errors import SplitError
from waymark.geo.cells import LEARNT
from waymark.geo.crs import project
from waymark.images.statistics import channel_statistics
from waymark.inference.predictor import Predictor
from waymark.metrics.figures import place_figures
from waymark.metrics.naming import name_figures
from waymark.options.kinds import BufferM, Fraction, Seed, SpacingM

logger = logging.getLogger(__name__)

TRAINED = Path("trained")
REPORTS = Path("reports/models")


@dataclass(frozen=True, config=STRICT)
class BlockSplit:
    """An entry of `block_split`, named like the model that is trained again.

    Args:
        block_m: side of the squares that go whole to one split.
        buffer_m: buffer zone around the squares of val and test, excluded from training.
        fractions: shares of the squares for train, val and test.
        seed: another seed is another division.
        calibrate: how its radii are learnt, as of all models.
    """

    calibrate: Calibrate
    block_m: SpacingM = 20_000.0
    buffer_m: BufferM = 2_000.0
    fractions: tuple[Fraction, Fraction, Fraction] = (0.8, 0.1, 0.1)
    seed: Seed = 1


STAGE = Stage(
    "block_split",
    BlockSplit,
    section="block_split.{entry}",
    shared=("calibrate",),
    each="block_split",
    check=lambda settings: splits.check_fractions(settings.fractions),
)


def block_split(model: str, settings: BlockSplit) -> None:
    """Train a model again on a split by place: how much of its error does a random split hide?"""
    entry = _entry(model)
    if entry.head.parts().place is None:
        raise SplitError(f"{model} answers no places; name a model that does under block_split")
    _refuse_learnt_cells(model, Path(entry.target))
    folder = TRAINED / model
    stored = pq.read_table(SHARDS / "index.parquet")
    table = _by_blocks(read_table(), read_json(folder / "training.json")["crs"], stored, settings)
    train = table.loc[table["split"] == "train", "record_id"]
    statistics = channel_statistics(stored.to_pandas(), train, int(stored.schema.metadata[b"size_px"]))
    setup = prepare(model, entry, table, statistics)
    inputs = [*INPUTS, folder / "training.json", *about_embeddings(entry.learns_from)]
    work = work_folder("block_split", {"model": model, **asdict(settings)}, inputs)
    train_locator(setup, work)
    learnt = learn_certainty(model, setup.locator, table, settings.calibrate)
    views = open_views(setup.locator.config.embeddings)
    predictions = predict(
        Predictor(setup.locator, learnt.calibration, learnt.index), table, views, settings.calibrate.batch_size
    )
    metrics = {split: place_figures(rows) | name_figures(rows) for split, rows in by_split(predictions).items()}
    with whole_folder(REPORTS / f"{model}@block_split") as out:
        write_predictions(predictions, out / "predictions.parquet")
        write_json(metrics, out / "metrics.json")
        write_json(_describe(table, settings), out / "block_split.json")
    shutil.rmtree(work)
    logger.info("%s on a block split: mean error %.1f km on test", model, metrics["test"]["mean_km"] or math.nan)


def _entry(model: str) -> ModelEntry:
    """Read what the model was trained with."""
    params = read_json(TRAINED / model / "training.json")["params"]
    return TypeAdapter(ModelEntry).validate_json(json.dumps(params))


def _refuse_learnt_cells(model: str, target: Path) -> None:
    metadata = pq.read_schema(target / "places.parquet").metadata or {}
    if metadata.items() >= LEARNT.items():
        raise SplitError(
            f"the cells of {target} follow the training records of the random split, among them some that a split by"
            f" place would test {model} on; name a model under block_split whose cells are squares"
        )


def _by_blocks(table: pd.DataFrame, crs: str, index: pa.Table, settings: BlockSplit) -> pd.DataFrame:
    """Divide all records with coordinates again, by place; of near-duplicates, that in training yields."""
    table = table[table["latitude"].notna()].reset_index(drop=True)
    xy_m = project(places_of(table), crs)
    group = table["group"].fillna(table["record_id"])
    first = group.drop_duplicates().index  # a group lies where its first record lies
    anchors = pd.Series(first, index=group[first])[group].to_numpy()
    its_split = splits.by_blocks(
        xy_m[anchors], block_m=settings.block_m, fractions=settings.fractions, seed=settings.seed
    )
    strip = splits.within_buffer(xy_m, its_split, settings.buffer_m)
    table["split"] = np.where(strip, "unused", its_split)
    train, held_out = (np.flatnonzero(table["split"].isin(splits)) for splits in (["train"], HELD_OUT))
    looks = looks_of(index, table["record_id"].tolist())
    table.loc[train[copies_between(looks, held_out, train).copied], "split"] = "unused"
    table = table[table["split"] != "unused"].reset_index(drop=True)
    if missing := sorted({"train", "val", "test"} - set(table["split"])):
        raise SplitError(
            f"blocks of {settings.block_m:g} m with a buffer of {settings.buffer_m:g} m leave {missing[0]} without"
            " records; make block_split.*.block_m or block_split.*.buffer_m smaller"
        )
    return table


def _describe(table: pd.DataFrame, settings: BlockSplit) -> dict[str, Any]:
    counts = table["split"].value_counts()
    division = {name: value for name, value in asdict(settings).items() if name != "calibrate"}
    return {**division, "records": {split: int(counts[split]) for split in splits.SPLITS}}


if __name__ == "__main__":
    STAGE.main(block_split)

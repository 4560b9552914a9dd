"""What the report shows of the data, the grid and the block splits, read from what the stages wrote."""

from collections import Counter
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyarrow.parquet as pq

from tasks.common.outputs import read_json
from tasks.reporting.models import REPORTS
from tasks.training.landmark_classes import NAMES
from waymark.geo.crs import describe_crs
from waymark.metrics.generalization import generalization_gap, squares_of
from waymark.report.content import BlockSplit, Model, Report
from waymark.report.data import Data, Grid

DATA = Path("data")
GRID = "data/grid"


def block_split_of(model: Model, groups: "pd.Series[Any]") -> BlockSplit:
    """Compare a model with itself, trained and tested on a block split.

    Args:
        model: with its answers on the split of the run.
        groups: group by record_id on that split.
    """
    folder = REPORTS / f"{model.name}@block_split"
    division = read_json(folder / "block_split.json")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    squares = squares_of(predictions, division["block_m"], _crs())
    found = generalization_gap(model.predictions, predictions, groups, squares)
    return BlockSplit(model.name, {**division, **found}, model.predictions, predictions)


def report_of(models: list[Model], region: geopandas.GeoDataFrame | None) -> Report:
    """Gather source, data, grids and models."""
    source = read_json(DATA / "raw" / "source.json")
    grids = [_grid(models)] if len(pq.read_table(DATA / "grid" / "cells.parquet", columns=["cell"])) else []
    return Report(source=source, data=_data(source), region=region, grids=grids, models=models)


def _data(source: dict[str, Any]) -> Data:
    filtered = read_json(DATA / "filtered" / "report.json")
    statistics = read_json(DATA / "split" / "statistics.json")
    split = pd.read_parquet(DATA / "split" / "records.parquet")
    places = pd.read_parquet(DATA / "projected" / "places.parquet").merge(split, on="record_id")
    quarantine = pd.read_parquet(DATA / "shards" / "quarantine.parquet")
    size_px = pq.read_schema(DATA / "shards" / "index.parquet").metadata[b"size_px"].decode()
    landmarks = pd.read_parquet(DATA / "filtered" / "landmarks.parquet")
    census = ("share_over_10", "share_over_100", "orientations", "sizes", "megapixels")
    return Data(
        records={"fetched": source["counts"]["records"], "kept": filtered["kept"]},
        dropped=filtered["dropped"],
        quarantined=dict(Counter(quarantine["status"])),
        splits=dict(Counter(split["split"])),
        facts={
            "pictures": f"{source['counts']['pictures']}",
            "side of a picture": f"{size_px} px",
            **({"projection": describe_crs(_crs())} if len(places) else {}),
            "training pictures": f"{statistics['pictures']}",
        },
        landmarks=landmarks if len(landmarks) else None,
        places=places if len(places) else None,
        landmark_splits=pd.read_parquet(NAMES) if len(landmarks) else None,
        **{name: filtered[name] for name in census},
    )


def _crs() -> str:
    return pq.read_schema(DATA / "projected" / "places.parquet").metadata[b"crs"].decode()


def _grid(models: list[Model]) -> Grid:
    cells = geopandas.read_parquet(DATA / "grid" / "cells.parquet")
    places = pd.read_parquet(DATA / "grid" / "places.parquet")
    split = pd.read_parquet(DATA / "split" / "records.parquet").set_index("record_id")["split"]
    training = places[places["record_id"].map(split) == "train"]
    oracle = next((model.metrics for model in models if model.settings.get("target") == GRID), {})
    return Grid(
        name=GRID,
        cells=cells,
        training_counts={int(cell): int(count) for cell, count in Counter(training["cell"]).items()},
        spacing=f"{len(cells)} cells",
        crs=describe_crs(cells.crs.to_string()),
        oracle_mean_km={name: figures.get("oracle_mean_km") for name, figures in oracle.items()},
    )

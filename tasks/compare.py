"""Set the models beside each other, in a report that people look at."""

import base64
import logging
import shutil
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass

from tasks.outputs import read_json, whole_file, write_json
from tasks.stage import STRICT, Stage
from waymark.geo import describe_crs, load_region
from waymark.report.content import Data, Grid, Guess, Model, Picture, Report, Source
from waymark.report.page import report_page

logger = logging.getLogger(__name__)

DATA = Path("data")
REPORTS = Path("reports")


@dataclass(frozen=True, config=STRICT)
class Compare:
    """The shared keys `region` and `models`, of which only the names matter here.

    Args:
        region: whose outline the maps show.
        models: entries, by name.
    """

    region: str | None
    models: dict[str, dict[str, Any]]


STAGE = Stage("compare", Compare, section="", shared=("region", "models"))


def compare(settings: Compare) -> None:
    """Set the models beside each other, in a report that people look at."""
    remove_leftovers(settings.models)
    models = [_model(name, entry) for name, entry in settings.models.items()]
    figures = {model.name: model.metrics for model in models}
    comparison = {"best_on_val": best_on_val(figures), "models": figures}
    page = report_page(_report(models, settings.region))
    with whole_file(REPORTS / "index.html") as path:
        path.write_text(page)
    with whole_file(REPORTS / "compare.json") as path:
        write_json(comparison, path)
    logger.info("best on val: %s", comparison["best_on_val"])


def remove_leftovers(models: Container[str]) -> None:
    """Remove the reports of models that are no entries any more.

    DVC leaves them lying (its cache keeps them, too), and the hash of `reports/models`, on which
    this stage depends, would differ from that of a checkout that never had them.
    """
    for folder in sorted((REPORTS / "models").glob("*/")):
        if folder.name not in models:
            shutil.rmtree(folder)


def best_on_val(figures: dict[str, Any]) -> str | None:
    """Name the model with the smallest mean error on val; the first of equals."""
    known = {name: its["val"]["mean_km"] for name, its in figures.items() if its["val"].get("mean_km") is not None}
    return min(known, key=lambda name: known[name]) if known else None


def _model(name: str, entry: dict[str, Any]) -> Model:
    folder = REPORTS / "models" / name
    gallery = read_json(folder / "gallery.json")
    curves = pd.read_csv(folder / "plots" / "curves.csv")
    return Model(
        name=name,
        metrics=read_json(folder / "metrics.json"),
        predictions=pd.read_parquet(folder / "predictions.parquet"),
        curves=curves.assign(model=name),
        settings={
            key: _words(entry[key]) for key in ("head", "backbone", "weights", "views", "epochs") if key in entry
        },
        best=[_guess(shown) for shown in gallery["best"]],
        worst=[_guess(shown) for shown in gallery["worst"]],
    )


def _words(value: Any) -> str:
    return ", ".join(str(part) for part in value.values()) if isinstance(value, dict) else str(value)


def _guess(shown: dict[str, Any]) -> Guess:
    pictures = [
        Picture(
            base64.b64decode(picture["jpeg"]),
            "" if picture["heading_deg"] is None else f"{picture['heading_deg']:g}°",
        )
        for picture in shown["pictures"]
    ]
    return Guess(**{**shown, "pictures": pictures})


def _report(models: list[Model], region: str | None) -> Report:
    source = read_json(DATA / "raw" / "source.json")
    outline = None if region is None else load_region(region)
    grids = [_grid(models)] if len(pq.read_table(DATA / "grid" / "cells.parquet", columns=["cell"])) else []
    return Report(
        title="Waymark",
        subtitle=source["description"],
        source=Source(
            name=source["name"],
            description=source["description"],
            licences=[source["licence"]],
            counts=source["counts"],
            made_up=source.get("made_up", False),
        ),
        data=_data(source),
        region=outline,
        grids=grids,
        models=models,
    )


def _data(source: dict[str, Any]) -> Data:
    filtered = read_json(DATA / "filtered" / "report.json")
    statistics = read_json(DATA / "split" / "statistics.json")
    split = pd.read_parquet(DATA / "split" / "records.parquet")
    places = pd.read_parquet(DATA / "projected" / "places.parquet").merge(split, on="record_id")
    quarantine = pd.read_parquet(DATA / "shards" / "quarantine.parquet")
    size_px = pq.read_schema(DATA / "shards" / "index.parquet").metadata[b"size_px"].decode()
    crs = pq.read_schema(DATA / "projected" / "places.parquet").metadata[b"crs"].decode()
    landmarks = pd.read_parquet(DATA / "filtered" / "landmarks.parquet")
    return Data(
        records={"fetched": source["counts"]["records"], "kept": filtered["kept"]},
        dropped=filtered["dropped"],
        quarantined=dict(Counter(quarantine["status"])),
        splits=dict(Counter(split["split"])),
        facts={
            "pictures": f"{source['counts']['pictures']}",
            "side of a picture": f"{size_px} px",
            "projection": describe_crs(crs),
            "training pictures": f"{statistics['pictures']}",
        },
        landmarks=landmarks if len(landmarks) else None,
        places=places if len(places) else None,
    )


def _grid(models: list[Model]) -> Grid:
    cells = geopandas.read_parquet(DATA / "grid" / "cells.parquet")
    places = pd.read_parquet(DATA / "grid" / "places.parquet")
    split = pd.read_parquet(DATA / "split" / "records.parquet").set_index("record_id")["split"]
    training = places[places["record_id"].map(split) == "train"]
    oracle = next((model.metrics for model in models if model.metrics["val"].get("oracle_mean_km") is not None), {})
    return Grid(
        name="data/grid",
        cells=cells,
        training_counts={int(cell): int(count) for cell, count in Counter(training["cell"]).items()},
        spacing=f"{len(cells)} cells",
        crs=describe_crs(cells.crs.to_string()),
        oracle_mean_km={name: figures["oracle_mean_km"] for name, figures in oracle.items()},
    )


if __name__ == "__main__":
    STAGE.main(compare)

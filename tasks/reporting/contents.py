"""What the report shows, read from what the stages wrote."""

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from tasks.common.outputs import read_json
from tasks.reporting.landmark_contents import LANDMARKS, asked, recognition_of
from waymark.data.leakage import Leakage
from waymark.geo.crs import describe_crs
from waymark.geo.regions import load_region
from waymark.metrics.gap import squares_of
from waymark.metrics.nearness import error_by_nearness
from waymark.metrics.queries import Relevant
from waymark.metrics.reliability import cell_reliability, radius_coverage
from waymark.metrics.risk import radius_risk_coverage
from waymark.report.content import Audit, Ensemble, Finding, Gap, Grid, Guess, Model, Report, Side
from waymark.report.data import Data, Source
from waymark.report.picture import Picture

DATA = Path("data")
REPORTS = Path("reports")
GRID = "data/grid"


def on_blocks(model: str) -> str:
    """Name the folder of a model's test on a block split.

    >>> on_blocks("cells")
    'cells@blocks'
    """
    return f"{model}@blocks"


def folder_of(name: str) -> Path:
    """Find the folder of a model's report, or of its test on a block split."""
    return REPORTS / "models" / name


def ensemble_folder(name: str) -> Path:
    """Find the folder of an ensemble's report."""
    return REPORTS / "ensembles" / name


def model_of(name: str, entry: dict[str, Any], relevant: Relevant) -> Model:
    """Read what was measured of a model, and look closer at its predictions."""
    folder = folder_of(name)
    gallery = read_json(folder / "gallery.json")
    curves = pd.read_csv(folder / "plots" / "curves.csv")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    val, test = (predictions[predictions["split"] == split] for split in ("val", "test"))
    by_cell = geopandas.read_parquet(folder / "errors_by_cell.parquet")
    by_region = pd.read_csv(folder / "errors_by_region.csv")
    return Model(
        name=name,
        metrics=read_json(folder / "metrics.json"),
        predictions=predictions,
        curves=curves.assign(model=name),
        settings={
            key: _words(entry[key])
            for key in ("head", "target", "backbone", "weights", "views", "epochs")
            if key in entry
        },
        best=[_guess(shown) for shown in gallery["best"]],
        worst=[_guess(shown) for shown in gallery["worst"]],
        intervals=_intervals(folder),
        by_cell=by_cell[by_cell["split"] == "test"],
        by_region=by_region[by_region["split"] == "test"],
        reliability=cell_reliability(test),
        radii=radius_coverage(val, test),
        risk=radius_risk_coverage(test),
        nearness=error_by_nearness(test),
        filters=_picture(gallery["filters"]),
        feature_maps=[_picture(shown) for shown in gallery["feature_maps"]],
        size=read_json(folder / "size.json"),
        recognition=recognition_of(folder, predictions, relevant),
        asked=asked(predictions, relevant),
    )


def ensembles_of() -> list[Ensemble]:
    """Read what was measured of the ensembles."""
    return [
        Ensemble(
            name,
            its["models"],
            read_json(ensemble_folder(name) / "metrics.json"),
            its["weights"],
            _intervals(ensemble_folder(name)),
        )
        for name, its in read_json(REPORTS / "ensembles" / "index.json").items()
    ]


def _intervals(folder: Path) -> dict[str, dict[str, tuple[float, float]]]:
    document = read_json(folder / "intervals.json")
    return {
        split: {name: (ends[0], ends[1]) for name, ends in document[split].items() if isinstance(ends, list)}
        for split in ("val", "test")
    }


def _words(value: Any) -> str:
    """Put a setting in words, what has keys with them, its name first.

    >>> _words({"name": "cells", "answer": "mean", "smoothing_km": None})
    'cells, answer mean'
    """
    if not isinstance(value, dict):
        return str(value)
    known = {key: its for key, its in value.items() if its is not None}
    return ", ".join(_words(its) if key == "name" else f"{key} {_words(its)}" for key, its in known.items())


def _guess(shown: dict[str, Any]) -> Guess:
    pictures = [
        Picture(
            base64.b64decode(picture["jpeg"]),
            "" if picture["heading_deg"] is None else f"{picture['heading_deg']:g}°",
        )
        for picture in shown["pictures"]
    ]
    return Guess(**{**shown, "pictures": pictures})


def _picture(shown: dict[str, str]) -> Picture:
    return Picture(base64.b64decode(shown["png"]), shown["label"])


def squares_on_blocks(model: str) -> "pd.Series[str]":
    """Name the square that each record of a model's block split lies in."""
    about = read_json(folder_of(on_blocks(model)) / "gap.json")
    return squares_of(predictions_on_blocks(model), about["block_m"], _crs())


def predictions_on_blocks(model: str) -> pd.DataFrame:
    """Read a model's predictions on its block split."""
    return pd.read_parquet(folder_of(on_blocks(model)) / "predictions.parquet")


def gap_of(model: str, predictions: pd.DataFrame, gap: dict[str, Any]) -> Gap:
    """Put what `waymark.metrics.gap.split_gap` found beside the distances that it was found in."""
    about = read_json(folder_of(on_blocks(model)) / "gap.json")
    random, blocks = _side(gap["random"], predictions), _side(gap["blocks"], predictions_on_blocks(model))
    facts = {
        "side of a block": f"{about['block_m'] / 1000:g} km",
        "strip of nobody around val and test": f"{about['buffer_m'] / 1000:g} km",
        **{f"{split} records of the block split": f"{count:,}" for split, count in about["records"].items()},
        "squares that its test lies in": f"{gap['blocks']['units']:,}",
    }
    return Gap(model, facts, random, blocks, ratio=gap["ratio"], meaning=gap["meaning"])


def _side(figures: dict[str, Any], predictions: pd.DataFrame) -> Side:
    known = predictions[(predictions["split"] == "test") & predictions["distance_km"].notna()]
    return Side(
        figures=_numbers(figures),
        intervals={name: (ends[0], ends[1]) for name, ends in figures["intervals"].items()},
        nearest_train_km=figures["nearest_train_km"],
        errors_km=known["distance_km"].to_numpy(dtype=np.float64),
        constant_km=known["constant_km"].to_numpy(dtype=np.float64),
    )


def audit_of(leakage: Leakage) -> Audit:
    """Turn what `waymark.data.leakage.audit` found into what the page shows."""
    return Audit(
        verdict=leakage.verdict,
        findings=[Finding(its.verdict, its.what, its.remedy) for its in leakage.findings],
        splits={
            split: {**_numbers(figures), "nearest_km": figures["nearest_train_km"].get("q50_km")}
            for split, figures in leakage.splits.items()
        },
        copies=leakage.copies,
    )


def _numbers(figures: dict[str, Any]) -> dict[str, float | None]:
    return {name: value for name, value in figures.items() if not isinstance(value, dict)}


def report_of(models: list[Model], region: str | None) -> Report:
    """Gather source, data, grids and models."""
    source = read_json(DATA / "raw" / "source.json")
    outline = None if region is None else load_region(region)
    grids = [_grid(models)] if len(pq.read_table(DATA / "grid" / "cells.parquet", columns=["cell"])) else []
    return Report(
        title=source.get("title") or source["name"],
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
        landmark_splits=pd.read_parquet(LANDMARKS) if len(landmarks) else None,
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

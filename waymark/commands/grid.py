"""`waymark grid`: compare grids of several spacings before training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.commands.grid_preview import GridPreview, preview_grids, preview_table
from waymark.commands.tables import read_places
from waymark.commands.terminal import say, show, write_text
from waymark.errors import SourceError
from waymark.geo.crs import describe_crs
from waymark.geo.regions import extent_region, load_region
from waymark.report.data import Grid
from waymark.report.grids import grids_page
from waymark.sources.tables import read_table

RECORDS = Path("data/filtered/records.parquet")
SPLIT = Path("data/split/records.parquet")
SPACINGS_KM = (10.0, 20.0, 40.0, 80.0)
MIN_RECORDS = (10, 20, 40)
ENOUGH = 10

Floats = NDArray[np.float64]


def grid_preview(
    records: Path = RECORDS,
    *,
    region: str | None = None,
    crs: str = "auto",
    spacings_km: Sequence[float] = SPACINGS_KM,
    min_records: Sequence[int] = MIN_RECORDS,
    enough: int = ENOUGH,
    split: Path | None = None,
    out: Path | None = None,
) -> None:
    """Print a table of grids, and write a page with a map of each.

    Args:
        records: Parquet or CSV with the columns latitude and longitude in degrees; rows without are left out.
        region: country code or vector file; None for the extent of the records, without empty squares.
        crs: of the cells, in metres, or `auto`.
        spacings_km: sides of squares; the widest is that of the quadtrees' widest squares.
        min_records: for each a quadtree whose non-empty cells hold at least this many records.
        enough: images that a cell should have; the table has the share of cells with fewer.
        split: `records.parquet` of the stage `split`: grids are then built from train and measured on val; by
            default that of the checkout for the checkout's own records, if it exists.
        out: HTML file to write, or None.

    Raises:
        SourceError: a file is missing, or has no such columns or no place.
    """
    if split is None and records == RECORDS and SPLIT.is_file():
        split = SPLIT
    table = _places(records)
    training, measured = (table, None) if split is None else _divided(table, records, split)
    everything = _lat_lon(table)
    outline = extent_region(everything) if region is None else load_region(region)
    previews = preview_grids(
        outline,
        _lat_lon(training),
        spacings_km=sorted(set(spacings_km)),
        min_records=sorted(set(min_records)),
        crs=crs,
        others=None if measured is None else _lat_lon(measured),
        places=everything if region is None else None,
    )
    figures = preview_table(previews, enough=enough)
    basis = f"the {len(training):,} records" if measured is None else f"{len(measured):,} val records"
    show(_text(figures, enough))
    say(f"oracle error over {basis}; CRS {describe_crs(previews[0].cells.crs.to_string())}")
    if out is not None:
        page = grids_page(
            [_grid(preview) for preview in previews],
            figures,
            enough=enough,
            measured=basis,
            region=None if region is None else outline,
        )
        write_text(page, out)


def _text(figures: pd.DataFrame, enough: int) -> str:
    """Format the table."""
    shown = pd.DataFrame(
        {
            "grid": figures["grid"],
            "side km": figures["spacing_km"].map("{:g}".format),
            "cells": figures["cells"],
            "with images": figures["classes"],
            "least": figures["images_min"],
            "median": figures["images_median"].map("{:g}".format),
            "most": figures["images_max"],
            f"below {enough}": figures["few"].map("{:.0%}".format),
            "centre: mean km": figures["centre_mean_km"].map("{:.2f}".format),
            "centre: median km": figures["centre_median_km"].map("{:.2f}".format),
            "training: mean km": figures["training_mean_km"].map("{:.2f}".format),
            "training: median km": figures["training_median_km"].map("{:.2f}".format),
        }
    )
    return shown.to_string(index=False)


def _grid(preview: GridPreview) -> Grid:
    counts = {cell: int(count) for cell, count in enumerate(preview.images) if count}
    return Grid(preview.name, preview.cells, counts, preview.name, preview.cells.crs.to_string())


def _places(path: Path) -> pd.DataFrame:
    """Read the rows that have a place, with their ids if there are any."""
    if path == RECORDS and not path.is_file():
        raise SourceError(f"{path} does not exist; name a Parquet or CSV file, or run dvc repro filter")
    table = read_table(path)
    places = pd.DataFrame(read_places(table), columns=["latitude", "longitude"])
    if (column := table.find(["record_id"])) is not None:
        places["record_id"] = table.texts(column)
    places = places.dropna(subset=["latitude", "longitude"])
    if places.empty:
        raise SourceError(f"{path} has no record with coordinates; a grid needs some")
    return places


def _divided(places: pd.DataFrame, path: Path, split: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the records of train and of val."""
    if "record_id" not in places:
        raise SourceError(f"{path} has no column record_id to join {split} by; leave out the split")
    table = read_table(split)
    columns = [table.find([name]) for name in ("record_id", "split")]
    if None in columns:
        raise SourceError(f"{split} has no columns record_id and split; use data/split/records.parquet")
    of_record = dict(zip(*(table.texts(str(column)) for column in columns), strict=True))
    splits = places["record_id"].map(of_record)
    train, val = places[splits == "train"], places[splits == "val"]
    if train.empty or val.empty:
        raise SourceError(f"{split} leaves {len(train)} train and {len(val)} val records with coordinates in {path}")
    return train, val


def _lat_lon(table: pd.DataFrame) -> Floats:
    return table[["latitude", "longitude"]].to_numpy(dtype=np.float64)

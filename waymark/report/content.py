"""What a report says, as plain values: the page reads these and computes no figure of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import geopandas as gpd
import pandas as pd

Metrics = Mapping[str, float | int | None]


@dataclass(frozen=True)
class Source:
    """Where the records come from.

    Attributes:
        name: name of the source, such as `synthetic`.
        description: one or two sentences.
        licences: licences of the pictures, as the source names them.
        counts: what `source.json` counted, by name (records, pictures).
        made_up: whether the pictures show no real place; the page then says so on top.
    """

    name: str
    description: str = ""
    licences: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    made_up: bool = False


@dataclass(frozen=True)
class Data:
    """What became of the records on their way to the models.

    Attributes:
        records: number of records after each stage, in order (`{"raw": 2600, "kept": 2551}`).
        dropped: number of records that the filter dropped, by reason.
        quarantined: number of pictures set aside, by status.
        splits: number of records by split.
        facts: further short facts in words by name (`{"picture side": "64 px"}`).
        landmarks: columns `landmark`, `name`, `images`; None where the data has none.
        places: columns `latitude`, `longitude` in degrees and `split`; None where the data has none.
    """

    records: Mapping[str, int]
    dropped: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    landmarks: pd.DataFrame | None = None
    places: pd.DataFrame | None = None


@dataclass(frozen=True)
class Grid:
    """One grid of cells.

    Attributes:
        name: what models call it as their target, such as `data/grid`.
        cells: what `waymark.geo.build_grid` returned.
        training_counts: number of training records by cell; absent cells have none.
        spacing: spacing in words, such as `20 km`.
        crs: coordinate reference system in words, such as `EPSG:3765`.
        oracle_mean_km: mean error of answering the right cell's centre, by split.
    """

    name: str
    cells: gpd.GeoDataFrame
    training_counts: Mapping[int, int]
    spacing: str
    crs: str
    oracle_mean_km: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """One JPEG and the words below it, such as `90° east`."""

    jpeg: bytes
    label: str = ""


@dataclass(frozen=True)
class Guess:
    """One answer of a model to look at, in degrees and km."""

    record_id: str
    distance_km: float
    latitude: float
    longitude: float
    predicted_latitude: float
    predicted_longitude: float
    radius_90_km: float | None = None
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Model:
    """One model and what was measured of it.

    Attributes:
        name: its name under `models:` in the parameters.
        metrics: `metrics.json`: figures by split; unknown keys are let be.
        predictions: `predictions.parquet`.
        curves: one row for each epoch, see `waymark.report.plots.learning_curves`; None where nothing was trained.
        settings: short facts in words by name (`{"backbone": "resnet18"}`).
        best: the nearest guesses, the best first.
        worst: the farthest guesses, the worst first.
    """

    name: str
    metrics: Mapping[str, Metrics]
    predictions: pd.DataFrame
    curves: pd.DataFrame | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    best: Sequence[Guess] = ()
    worst: Sequence[Guess] = ()


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes:
        title: heading of the page.
        source: where the records come from.
        data: what became of them.
        subtitle: one line below the heading; no time of day, or the bytes change with it.
        region: outline in any CRS, or None.
        grids: the grids that models use.
        models: the models, in the order of the parameters.
    """

    title: str
    source: Source
    data: Data
    subtitle: str = ""
    region: gpd.GeoDataFrame | None = None
    grids: Sequence[Grid] = ()
    models: Sequence[Model] = ()

"""What a report says, as plain values: the page reads these and computes no figure of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from waymark.metrics.reliability import Reliability
from waymark.metrics.risk import RiskCoverage
from waymark.report.data import Data, Source
from waymark.report.picture import Picture
from waymark.report.recognition import Recognition
from waymark.report.verdict import Verdict

Metrics = Mapping[str, float | int | None]
Ends = tuple[float, float]  # of a 95 % interval


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
        curves: one row for each epoch, see `waymark.report.learning.learning_curves`; None where nothing was trained.
        settings: short facts in words by name (`{"backbone": "resnet18"}`).
        best: the nearest guesses, the best first.
        worst: the farthest guesses, the worst first.
        intervals: 95 % intervals of the figures, by split and then by figure; a figure without one is absent.
        by_cell: errors of the test records by cell, see `waymark.metrics.breakdown`, with the cells' shapes.
        by_region: errors of the test records by region.
        reliability: of the probabilities of cells, on test.
        radii: promised and covered shares on test, see `waymark.metrics.reliability.radius_coverage`.
        risk: mean error on test over the most certain records.
        nearness: median error on test by the distance to the nearest training place.
        filters: what the first layer of the network looks for.
        feature_maps: what its layers see in one photo.
        size: `parameters_millions`, `checkpoint_mb`, `gmacs` of one record, as far as known. How fast a model is
            depends on the machine, and stands with its run in MLflow.
        recognition: how it names landmarks; None where it names none.
        asked: by split, how many pictures it was asked about and named, see `waymark.metrics.asked`.
    """

    name: str
    metrics: Mapping[str, Metrics]
    predictions: pd.DataFrame
    curves: pd.DataFrame | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    best: Sequence[Guess] = ()
    worst: Sequence[Guess] = ()
    intervals: Mapping[str, Mapping[str, Ends]] = field(default_factory=dict)
    by_cell: gpd.GeoDataFrame | None = None
    by_region: pd.DataFrame | None = None
    reliability: Reliability | None = None
    radii: pd.DataFrame | None = None
    risk: RiskCoverage | None = None
    nearness: pd.DataFrame | None = None
    filters: Picture | None = None
    feature_maps: Sequence[Picture] = ()
    size: Metrics = field(default_factory=dict)
    recognition: Recognition | None = None
    asked: Mapping[str, Metrics] = field(default_factory=dict)


@dataclass(frozen=True)
class Ensemble:
    """Several models that answer together.

    Attributes:
        name: its name under `ensembles:` in the parameters.
        models: names of its models.
        metrics: its figures by split, as those of a model.
        weights: of its models; None where all count the same.
        intervals: 95 % intervals of the figures, by split and then by figure.
    """

    name: str
    models: Sequence[str]
    metrics: Mapping[str, Metrics]
    weights: Sequence[float] | None = None
    intervals: Mapping[str, Mapping[str, Ends]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Two models over the same records of a split.

    Attributes:
        model: name of the one.
        against: name of the other.
        split: whose records.
        records: how many both answered.
        difference_km: mean error of the one minus that of the other, with keys `value`, `low`, `high`.
        ratio: the one divided by the other, likewise.
    """

    model: str
    against: str
    split: str
    records: int
    difference_km: Metrics
    ratio: Metrics


@dataclass(frozen=True)
class Side:
    """One of the two splits that a model was tested on.

    Attributes:
        figures: `records`, `mean_km`, `median_km`, `constant_mean_km`, `times_constant`.
        intervals: 95 % intervals of these.
        nearest_train_km: quantiles of the distance to the nearest training place, by names such as `q50_km`.
        errors_km: `(N,)` distances of the test records.
        constant_km: `(N,)` distances of the constant baseline.
    """

    figures: Metrics
    intervals: Mapping[str, Ends]
    nearest_train_km: Mapping[str, float]
    errors_km: npt.NDArray[np.float64]
    constant_km: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """A model beside itself, trained and tested on a block split.

    Attributes:
        model: its name.
        facts: short facts in words by name (`{"side of a block": "20 km"}`).
        random: tested on the split of the run.
        blocks: tested on blocks of their own.
        ratio: mean error on blocks divided by the other, with keys `value`, `low`, `high`; None without records.
        meaning: what follows, in a sentence or two.
    """

    model: str
    facts: Mapping[str, str]
    random: Side
    blocks: Side
    ratio: Metrics | None
    meaning: str


@dataclass(frozen=True)
class Finding:
    """One thing that an audit looked at: `ok`, `watch` or `leak`, what it found, and what to do about it."""

    verdict: str
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Audit:
    """What val and test share with training.

    Attributes:
        verdict: the worst of the findings.
        findings: one for each kind of leak.
        splits: figures by split: `records`, `places`, `nearest_km`, `within_10m`, `within_100m`, `within_1000m`,
            `same_place`, `in_shared_groups`, `shared_groups`, `near_duplicates`, `training_copies`.
        copies: near-duplicates: `record_id`, `split`, `train_record_id`, `bits`.
    """

    verdict: str
    findings: Sequence[Finding]
    splits: Mapping[str, Metrics]
    copies: Sequence[Mapping[str, object]] = ()


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
        pairs: models against each other over the same records.
        gaps: models beside themselves on a block split.
        audit: what val and test share with training, or None.
        ensembles: models that answer together.
        verdicts: what the figures come to, of the best models.
    """

    title: str
    source: Source
    data: Data
    subtitle: str = ""
    region: gpd.GeoDataFrame | None = None
    grids: Sequence[Grid] = ()
    models: Sequence[Model] = ()
    pairs: Sequence[Pair] = ()
    gaps: Sequence[Gap] = ()
    audit: Audit | None = None
    ensembles: Sequence[Ensemble] = ()
    verdicts: Sequence[Verdict] = ()

"""What a report says, as plain values: the page reads these and computes no figure of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import pandas as pd

from waymark.data.leakage import Leakage
from waymark.metrics.reliability import Reliability
from waymark.metrics.risk import RiskCoverage
from waymark.report.data import Data, Grid
from waymark.report.verdict import Verdict

Metrics = Mapping[str, float | int | None]
Document = Mapping[str, Any]  # of a JSON file


@dataclass(frozen=True)
class Picture:
    """One picture, as JPEG or PNG, and the words below it, such as `90° east`."""

    encoded: bytes
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
class LandmarkGuess:
    """One answer to look at of a model that names landmarks.

    Attributes:
        record_id: which record.
        truth: names of the landmarks it shows; none where it shows no landmark.
        answered: name of the landmark that the model answers, None where it answers that there is none.
        score: of the answer, higher is more certain.
        right: whether that is so, None where it is unknown.
        pictures: of the record.
        confidence: 0 to 1, how probable the model calls it; None where unknown.
    """

    record_id: str
    truth: Sequence[str]
    answered: str | None
    score: float
    right: bool | None
    pictures: Sequence[Picture] = ()
    confidence: float | None = None


@dataclass(frozen=True)
class Confusion:
    """Records of one landmark that were answered as another.

    Attributes:
        true: the landmark they show.
        true_name: its readable name.
        answered: the landmark they were taken for.
        answered_name: its readable name.
        count: how many were.
        pictures: one of these records, and a training picture of the landmark it was taken for.
    """

    true: str
    true_name: str
    answered: str
    answered_name: str
    count: int
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Recognition:
    """How a model names landmarks, on test. Its figures stand among those of the model.

    Attributes:
        relevant: which queries count: `all` with a landmark, or those whose landmark is `known` to training.
        facts: short facts in words by name (`{"weight of retrieval": "0.4"}`).
        parts: columns `part` (head, middle, tail), `landmarks`, `training_images`, `queries`, `top1`, `top5`, `gap`.
        confusions: the pairs that are confused most often, the most frequent first.
        best: right answers, the surest first.
        worst: wrong answers, the surest first, with pictures without a landmark that were given one.
        curve: columns `threshold`, `answered`, `precision`, `recall` (shares) and `confidence`: what answering from a
            score on means.
        threshold: the calibrated one, None where the model never refuses.
        attention: pictures under the model's attention map; none where it has no such map.
    """

    relevant: str = "all"
    facts: Mapping[str, str] = field(default_factory=dict)
    parts: pd.DataFrame | None = None
    confusions: Sequence[Confusion] = ()
    best: Sequence[LandmarkGuess] = ()
    worst: Sequence[LandmarkGuess] = ()
    curve: pd.DataFrame | None = None
    threshold: float | None = None
    attention: Sequence[Picture] = ()


@dataclass(frozen=True)
class Ensemble:
    """Several models that answer together; `metrics` and `intervals` are those of a model.

    Attributes:
        name: its name under `ensembles:` in the parameters.
        models: names of its models.
        metrics: figures by split.
        weights: of its models; None where all count the same.
        intervals: `intervals.json`.
    """

    name: str
    models: Sequence[str]
    metrics: Mapping[str, Metrics]
    weights: Sequence[float] | None = None
    intervals: Document = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """One model and what was measured of it.

    Attributes:
        name: its name under `models:` in the parameters.
        metrics: `metrics.json`: figures by split; unknown keys are ignored.
        predictions: `predictions.parquet`.
        curves: one row for each epoch, see `waymark.report.learning.learning_curves`; None where nothing was trained.
        settings: short facts in words by name (`{"backbone": "resnet18"}`).
        best: the nearest guesses, the best first.
        worst: the farthest guesses, the worst first.
        intervals: `intervals.json`: 95 % intervals by split and then by figure; a figure without one is absent.
        by_cell: errors of the test records by cell, see `waymark.metrics.breakdown`, with the cells' shapes.
        by_region: errors of the test records by region.
        reliability: of the probabilities of cells, on test.
        radii: promised and covered shares on test, see `waymark.metrics.reliability.radius_coverage`.
        risk: mean error on test over the most certain records.
        nearness: median error on test by the distance to the nearest training place.
        filters: what the first layer of the network looks for.
        feature_maps: what its layers see in one photo.
        size: `parameters_millions`, `checkpoint_mb`, `gmacs` of one record, as far as known. How fast a model is
            depends on the machine, and is logged with its run in MLflow.
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
    intervals: Document = field(default_factory=dict)
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
class BlockSplit:
    """A model compared with itself, trained and tested on a block split.

    Attributes:
        model: its name.
        found: `block_m`, `buffer_m` and `records` by split of the division, and what
            `waymark.metrics.generalization.generalization_gap` returned.
        random: `predictions.parquet` on the split of the run.
        blocks: that on the block split.
    """

    model: str
    found: Document
    random: pd.DataFrame
    blocks: pd.DataFrame


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes:
        source: `source.json`: `name`, `description`, `licence`, `counts`, and where there are `title` and `made_up`.
        data: what became of the records.
        region: outline in any CRS, or None.
        grids: the grids that models use.
        models: the models, in the order of the parameters.
        pairs: models compared over the same records, as `compare.json` holds them.
        block_splits: models compared with themselves on a block split.
        leakage: what val and test share with training, or None.
        ensembles: models that answer together.
        verdicts: what the figures come to, of the best models.
    """

    source: Document
    data: Data
    region: gpd.GeoDataFrame | None = None
    grids: Sequence[Grid] = ()
    models: Sequence[Model] = ()
    pairs: Sequence[Document] = ()
    block_splits: Sequence[BlockSplit] = ()
    leakage: Leakage | None = None
    ensembles: Sequence[Ensemble] = ()
    verdicts: Sequence[Verdict] = ()

    @property
    def title(self) -> str:
        """Heading of the page."""
        return str(self.source.get("title") or self.source["name"])

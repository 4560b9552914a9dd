"""What a report says of the data and its grids, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import geopandas as gpd
import pandas as pd


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
        share_over_10: share of the landmarks with more than 10 images.
        share_over_100: likewise 100.
        orientations: number of records that are `portrait`, `landscape`, `square` or `unknown`.
        sizes: the commonest sizes in pixels, each with keys `width`, `height`, `records`.
        megapixels: quantiles `q10`, `q50` and `q90`.
        landmark_splits: columns `landmark`, `name`, `train`, `val`, `test` (records).
    """

    records: Mapping[str, int]
    dropped: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    landmarks: pd.DataFrame | None = None
    places: pd.DataFrame | None = None
    share_over_10: float | None = None
    share_over_100: float | None = None
    orientations: Mapping[str, int] = field(default_factory=dict)
    sizes: Sequence[Mapping[str, int]] = ()
    megapixels: Mapping[str, float | None] = field(default_factory=dict)
    landmark_splits: pd.DataFrame | None = None


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

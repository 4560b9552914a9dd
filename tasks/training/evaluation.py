"""Figures and their intervals from a table of answers: of a model, a block split or an ensemble."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic.dataclasses import dataclass

from tasks.common.outputs import write_json
from tasks.common.stage import STRICT
from waymark.metrics.figures import Figures, landmark_figures, place_figures
from waymark.metrics.intervals import CONFIDENCE, METHOD, RESAMPLES, SEED, landmark_intervals, place_intervals
from waymark.metrics.naming import name_figures
from waymark.metrics.queries import Relevant
from waymark.options.kinds import Batch, FewOrNone, PathText

HELD_OUT = ("val", "test")


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    """Section `evaluate` of params.yaml.

    Args:
        regions: vector file with a column name by whose polygons errors are summed up, null for countries.
        gallery: how many of the best and of the worst guesses the report shows.
        batch_size: records that go through the network at once.
        relevant: which records count in figures of landmarks: all that show one, or those that show one known to
            training.
    """

    regions: PathText | None = None
    gallery: FewOrNone = 6
    batch_size: Batch = 64
    relevant: Relevant = "all"


def by_split(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Divide rows of predictions.parquet into those of val and those of test."""
    return {split: predictions[predictions["split"] == split] for split in HELD_OUT}


def write_figures(
    predictions: pd.DataFrame,
    groups: "pd.Series[Any]",
    relevant: Relevant,
    answers: Collection[str],
    folder: Path,
) -> dict[str, Figures]:
    """Write metrics.json and intervals.json, and return the figures by split.

    Args:
        predictions: rows of predictions.parquet.
        groups: group by record_id, which are resampled whole.
        relevant: which records with a landmark are queries.
        answers: what was asked for: `places`, `landmarks` or both.
        folder: to write to.
    """
    metrics: dict[str, Figures] = {}
    intervals: dict[str, Any] = {"confidence": CONFIDENCE, "method": METHOD, "resamples": RESAMPLES, "seed": SEED}
    for split, rows in by_split(predictions).items():
        metrics[split], intervals[split] = {}, {}
        if "places" in answers:
            metrics[split] |= place_figures(rows) | name_figures(rows)
            intervals[split] |= place_intervals(rows, groups).document()
        if "landmarks" in answers:
            metrics[split] |= landmark_figures(rows, relevant)
            found = landmark_intervals(rows, groups, relevant).document()
            intervals[split] |= {"landmark_unit": found.pop("unit"), "landmark_units": found.pop("units"), **found}
    write_json(metrics, folder / "metrics.json")
    write_json(intervals, folder / "intervals.json")
    return metrics


def in_words(figures: Figures) -> str:
    """Write the main figures of one split in a line of a log.

    >>> in_words({"mean_km": 56.7123, "records": 300, "gap": None})
    'mean error 56.7 km over 300 records'
    """
    parts = []
    if figures.get("mean_km") is not None:
        parts.append(f"mean error {figures['mean_km']:,.3g} km over {figures['records']:,} records")
    if figures.get("gap") is not None:
        parts.append(
            f"GAP {figures['gap']:.3f}, first guess right for {figures['top1']:.1%} of {figures['queries']:,} queries"
        )
    return "; ".join(parts) or "no record has the truth"

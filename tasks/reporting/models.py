"""What the report shows of each model and ensemble, from the tables of its answers."""

from pathlib import Path
from typing import Any

import geopandas
import pandas as pd

from tasks.common.outputs import read_json
from tasks.reporting.details import errors_of, write_errors, write_map
from tasks.reporting.network import network_pictures
from tasks.reporting.pictures import (
    Pictures,
    attention_pictures,
    confusions,
    landmark_guesses,
    place_guesses,
)
from tasks.training.evaluation import Evaluate
from tasks.training.landmark_classes import NAMES
from waymark.metrics.asked import Asked, asked_of
from waymark.metrics.landmarks import landmark_parts, landmark_table, names_of, parts_of
from waymark.metrics.nearness import error_by_nearness
from waymark.metrics.queries import Relevant
from waymark.metrics.reliability import cell_reliability, radius_coverage
from waymark.metrics.risk import radius_risk_coverage
from waymark.report.content import Ensemble, LandmarkGuess, Model, Recognition
from waymark.report.wording import confidence_in_words

REPORTS = Path("reports/models")
ENSEMBLES = Path("reports/ensembles")
SETTINGS = ("head", "target", "embeddings", "backbone", "weights", "views", "epochs")  # that the page shows


class ModelReader:
    """Reads the models' answers, and looks closer at them.

    Args:
        settings: section `evaluate`.
        region: outline of the maps, None for the extent of the places.
        regions: by which errors are summed up.
    """

    def __init__(
        self, settings: Evaluate, region: geopandas.GeoDataFrame | None, regions: geopandas.GeoDataFrame
    ) -> None:
        self.settings, self.region, self.regions = settings, region, regions
        self.pictures, self.landmarks = Pictures(), pd.read_parquet(NAMES)

    def read(self, name: str, entry: dict[str, Any], details: Path) -> Model:
        """Read one model, and write its details into a folder."""
        folder = REPORTS / name
        predictions = pd.read_parquet(folder / "predictions.parquet")
        val, test = (predictions[predictions["split"] == split] for split in ("val", "test"))
        metrics, size = read_json(folder / "metrics.json"), read_json(folder / "size.json")
        errors = errors_of(predictions, Path(entry["target"]), self.regions)
        write_errors(errors, details)
        write_map(name, predictions, self.region, details, places="mean_km" in metrics["test"])
        best, worst = place_guesses(test, self.pictures, self.settings.gallery)
        sure, wrong = landmark_guesses(test, names_of(self.landmarks).to_dict(), self.pictures, self.settings.gallery)
        seen = next((guess.record_id for guess in (*best, *sure) if guess.pictures), None)
        filters, feature_maps = network_pictures(name, size.pop("sha256"), seen, self.pictures)
        return Model(
            name=name,
            metrics=metrics,
            predictions=predictions,
            curves=pd.read_csv(folder / "plots" / "curves.csv").assign(model=name),
            settings={key: _words(entry[key]) for key in SETTINGS if key in entry},
            best=best,
            worst=worst,
            intervals=read_json(folder / "intervals.json"),
            by_cell=errors.by_cell[errors.by_cell["split"] == "test"],
            by_region=errors.by_region[errors.by_region["split"] == "test"],
            reliability=cell_reliability(test),
            radii=radius_coverage(val, test),
            risk=radius_risk_coverage(test),
            nearness=error_by_nearness(test),
            filters=filters,
            feature_maps=feature_maps,
            size=size,
            recognition=self._recognition(name, predictions, sure, wrong, details),
            asked=asked(predictions, self.landmarks, self.settings.relevant),
        )

    def _recognition(
        self, name: str, predictions: pd.DataFrame, best: list[LandmarkGuess], worst: list[LandmarkGuess], details: Path
    ) -> Recognition | None:
        """Look at how a model names landmarks; None where it names none."""
        if predictions["best_landmark"].isna().all():
            return None
        relevant, test = self.settings.relevant, predictions[predictions["split"] == "test"]
        landmark_table(test, self.landmarks, relevant).to_csv(details / "landmarks.csv", index=False)
        pairs, confused = confusions(test, self.landmarks, relevant, self.pictures)
        pairs.assign(examples=pairs["examples"].map(" ".join)).to_csv(details / "confusions.csv", index=False)
        threshold = threshold_of(predictions)
        shown = [guess.record_id for guess in (*best, *worst)]
        return Recognition(
            relevant=relevant,
            facts={
                "landmarks in training": f"{(self.landmarks['train'] > 0).sum():,}",
                "names one": _from_when_on(predictions, threshold),
            },
            parts=_parts(test, self.landmarks, relevant),
            confusions=confused,
            best=best,
            worst=worst,
            curve=pd.read_csv(REPORTS / name / "plots" / "answers.csv"),
            threshold=threshold,
            attention=attention_pictures(REPORTS / name / "attention.parquet", shown, self.pictures),
        )


def ensembles_of() -> list[Ensemble]:
    """Read what was measured of the ensembles."""
    return [
        Ensemble(
            name,
            entry["models"],
            read_json(ENSEMBLES / name / "metrics.json"),
            entry["weights"],
            read_json(ENSEMBLES / name / "intervals.json"),
        )
        for name, entry in read_json(ENSEMBLES / "index.json").items()
    ]


def asked(predictions: pd.DataFrame, landmarks: pd.DataFrame, relevant: Relevant) -> dict[str, Asked]:
    """Count by split what a model that names landmarks was asked and said; nothing of one that names none."""
    if predictions["best_landmark"].isna().all():
        return {}
    train = landmarks.set_index("landmark")["train"]
    return {split: asked_of(predictions[predictions["split"] == split], train, relevant) for split in ("val", "test")}


def threshold_of(predictions: pd.DataFrame) -> float | None:
    """Find the least score of an answer, which calibration took from an answer on val; None where none is refused."""
    refused = predictions["predicted_landmark"].isna() & predictions["best_landmark"].notna()
    answered = predictions.loc[predictions["predicted_landmark"].notna() & (predictions["split"] == "val"), "score"]
    return float(answered.min()) if refused.any() and len(answered) else None


def _from_when_on(predictions: pd.DataFrame, threshold: float | None) -> str:
    """Word from which confidence on a landmark is named."""
    if predictions["predicted_landmark"].isna().all():
        return "never: no answer on val was right"
    if threshold is None:
        return "always"
    least = predictions.loc[predictions["predicted_landmark"].notna(), "confidence"].min()
    return f"from {f'score {threshold:.3g}' if pd.isna(least) else confidence_in_words(least)} on"


def _parts(test: pd.DataFrame, landmarks: pd.DataFrame, relevant: Relevant) -> pd.DataFrame:
    """Sum up test by how many training images its landmarks have, and count these."""
    parts = landmark_parts(test, landmarks, relevant)
    train = landmarks.set_index("landmark")["train"]
    images = train.groupby(parts_of(train)).sum()
    return parts.assign(training_images=parts["part"].map(images).fillna(0).astype("int64"))


def _words(value: Any) -> str:
    """Put a setting in words, what has keys with them, its name first.

    >>> _words({"name": "cells", "answer": "mean", "smoothing_km": None})
    'cells, answer mean'
    """
    if not isinstance(value, dict):
        return str(value)
    known = {key: part for key, part in value.items() if part is not None}
    return ", ".join(_words(part) if key == "name" else f"{key} {_words(part)}" for key, part in known.items())

"""What the report shows of landmarks, read from what the stages wrote."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.common.outputs import read_json
from waymark.metrics.asked import Asked, asked_of
from waymark.metrics.landmarks import landmark_parts, parts_of
from waymark.metrics.queries import Relevant
from waymark.report.picture import Picture
from waymark.report.recognition import Confusion, LandmarkGuess, Recognition
from waymark.report.wording import confidence_in_words

LANDMARKS = Path("data/split/landmarks.parquet")


def recognition_of(folder: Path, predictions: pd.DataFrame, relevant: Relevant) -> Recognition | None:
    """Read how a model names landmarks; None where it names none.

    Args:
        folder: of the model's report.
        predictions: rows of predictions.parquet.
        relevant: which records count as queries.
    """
    if predictions["best_landmark"].isna().all():
        return None
    gallery = read_json(folder / "gallery.json")
    landmarks = pd.read_parquet(LANDMARKS)
    threshold = threshold_of(predictions)
    return Recognition(
        relevant=relevant,
        facts={
            "landmarks in training": f"{(landmarks['train'] > 0).sum():,}",
            "names one": _from_when_on(predictions, threshold),
        },
        parts=_parts(predictions[predictions["split"] == "test"], landmarks, relevant),
        confusions=[_confusion(its) for its in read_json(folder / "confusions.json")],
        best=[_guess(its) for its in gallery["landmarks"]["best"]],
        worst=[_guess(its) for its in gallery["landmarks"]["worst"]],
        curve=pd.read_csv(folder / "plots" / "answers.csv"),
        threshold=threshold,
        attention=[Picture(base64.b64decode(its["jpeg"]), its["label"]) for its in gallery["attention"]],
    )


def asked(predictions: pd.DataFrame, relevant: Relevant) -> dict[str, Asked]:
    """Count by split what a model that names landmarks was asked and said; nothing of one that names none."""
    if predictions["best_landmark"].isna().all():
        return {}
    train = pd.read_parquet(LANDMARKS).set_index("landmark")["train"]
    return {split: asked_of(predictions[predictions["split"] == split], train, relevant) for split in ("val", "test")}


def threshold_of(predictions: pd.DataFrame) -> float | None:
    """Give the least score of an answer, which calibration took from an answer on val; None where none is refused."""
    refused = predictions["predicted_landmark"].isna() & predictions["best_landmark"].notna()
    answered = predictions.loc[predictions["predicted_landmark"].notna() & (predictions["split"] == "val"), "score"]
    return float(answered.min()) if refused.any() and len(answered) else None


def _from_when_on(predictions: pd.DataFrame, threshold: float | None) -> str:
    """Say from which confidence on a landmark is named."""
    if predictions["predicted_landmark"].isna().all():
        return "never: no answer on val was right"
    if threshold is None:
        return "always"
    least = predictions.loc[predictions["predicted_landmark"].notna(), "confidence"].min()
    return f"from {f'score {threshold:.3g}' if pd.isna(least) else confidence_in_words(least)} on"


def _parts(test: pd.DataFrame, landmarks: pd.DataFrame, relevant: Relevant) -> pd.DataFrame:
    """Sum up test by how many training images its landmarks have, and say how many these are."""
    parts = landmark_parts(test, landmarks, relevant)
    train = landmarks.set_index("landmark")["train"]
    images = train.groupby(parts_of(train)).sum()
    return parts.assign(training_images=parts["part"].map(images).fillna(0).astype("int64"))


def _confusion(its: dict[str, Any]) -> Confusion:
    words = ("true", "true_name", "answered", "answered_name", "count")
    return Confusion(*(its[name] for name in words), [_picture(shown, shown["record_id"]) for shown in its["pictures"]])


def _guess(its: dict[str, Any]) -> LandmarkGuess:
    return LandmarkGuess(**{**its, "pictures": [_picture(shown) for shown in its["pictures"]]})


def _picture(shown: dict[str, Any], label: str | None = None) -> Picture:
    heading = "" if shown["heading_deg"] is None else f"{shown['heading_deg']:g}°"
    return Picture(base64.b64decode(shown["jpeg"]), heading if label is None else label)

"""Combine the answers of several models."""

import logging
import shutil
from collections.abc import Container
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic.dataclasses import dataclass

from tasks.common.kinds import Name
from tasks.common.outputs import whole_folder, write_json
from tasks.common.stage import STRICT, Stage
from tasks.training.ensembles import Answer, EnsembleEntry, answers_together, check_ensembles
from tasks.training.evaluation import Evaluate, in_words, write_figures
from waymark.data.records import write_table
from waymark.errors import ModelError
from waymark.inference.ensembling import combined_candidates, combined_places, combined_ranks
from waymark.metrics.functional import haversine_km
from waymark.models.calibration import fit_confidence, fit_radii
from waymark.models.recognition import Precision, rejection, wanted_precision

logger = logging.getLogger(__name__)

MODELS = Path("reports/models")
ENSEMBLES = Path("reports/ensembles")
RECORDS = Path("data/filtered/records.parquet")

TRUTH = ("record_id", "split", "latitude", "longitude", "landmarks")
PLACES = ("predicted_latitude", "predicted_longitude")
KEPT = 5  # candidates of a record


@dataclass(frozen=True, config=STRICT)
class Ensemble:
    """Section `ensembles` of params.yaml, and what it is held against.

    Args:
        ensembles: entries, by name.
        models: entries, of which names, targets and heads matter here.
        block_split: names of the models that are tested on a block split, too.
        calibrate: of which `precision` matters here: what the answers that are not refused shall reach on val.
        evaluate: of which `relevant` matters here: the queries that count.
    """

    ensembles: dict[Name, EnsembleEntry]
    models: dict[Name, dict[str, Any]]
    block_split: dict[Name, Any]
    calibrate: dict[str, Any]
    evaluate: Evaluate


STAGE = Stage(
    "ensemble",
    Ensemble,
    section="",
    shared=("ensembles", "models", "block_split", "calibrate", "evaluate"),
    check=lambda settings: check_ensembles(settings.ensembles, settings.models),
    prepare=lambda settings: remove_leftovers(
        {*settings.models, *(f"{model}@block_split" for model in settings.block_split)}
    ),
)


class Member(NamedTuple):
    """What one model answered: rows of predictions.parquet and of candidates.parquet."""

    predictions: pd.DataFrame
    candidates: pd.DataFrame


def ensemble(settings: Ensemble) -> None:
    """Combine the answers of several models."""
    groups = pd.read_parquet(RECORDS, columns=["record_id", "group"]).set_index("record_id")["group"]
    index: dict[str, Any] = {}
    with whole_folder(ENSEMBLES) as folder:
        for name, entry in settings.ensembles.items():
            answers = answers_together(entry, settings.models)
            together = answer(entry, answers, settings.calibrate.get("precision", "auto"))
            (folder / name).mkdir()
            for kind, rows in together._asdict().items():
                _write_rows(rows, MODELS / entry.models[0] / f"{kind}.parquet", folder / name / f"{kind}.parquet")
            metrics = write_figures(together.predictions, groups, settings.evaluate.relevant, answers, folder / name)
            weights = None if entry.weights is None else list(entry.weights)
            index[name] = {"models": list(entry.models), "weights": weights, "answers": sorted(answers)}
            for split, figures in metrics.items():
                logger.info("%s %s: %s", name, split, in_words(figures))
        write_json(index, folder / "index.json")


def remove_leftovers(names: Container[str]) -> None:
    """Remove the reports of models that are no entries any more, and of block splits that are not asked for.

    DVC leaves them lying (its cache keeps them, too), and the hash of `reports/models`, on which this stage and
    `compare` depend, would differ from that of a checkout that never had them.
    """
    for folder in sorted(MODELS.glob("*/")):
        if folder.name not in names:
            shutil.rmtree(folder)


def answer(entry: EnsembleEntry, answers: frozenset[Answer], precision: Precision = "auto") -> Member:
    """Combine the answers of the models of an ensemble.

    Args:
        entry: names of the models, and how they are combined.
        answers: what all of them answer.
        precision: share of the landmarks named on val that shall be right, see `wanted_precision`.

    Returns:
        What a model writes that answers this.

    Raises:
        ModelError: the models were evaluated on different records.
    """
    members = [_read(model) for model in entry.models]
    rows = [member.predictions for member in members]
    for model, answered in zip(entry.models, rows, strict=True):
        if not answered["record_id"].equals(rows[0]["record_id"]):
            raise ModelError(f"{model} and {entry.models[0]} were evaluated on different records; run dvc repro")
    predictions = rows[0][list(TRUTH)]
    ranked = members[0].candidates.head(0)
    if "places" in answers:
        predictions = predictions.assign(**_places(rows, entry))
    if "landmarks" in answers:
        ranked = combined_candidates([member.candidates for member in members], rows, entry.shares)
        predictions = predictions.assign(**_landmarks(rows, ranked, precision))
        ranked = ranked[ranked["place"] <= KEPT].merge(predictions[["record_id", "split"]], on="record_id")
    return Member(predictions.reindex(columns=rows[0].columns), ranked[members[0].candidates.columns])


def _read(model: str) -> Member:
    folder = MODELS / model
    return Member(pd.read_parquet(folder / "predictions.parquet"), pd.read_parquet(folder / "candidates.parquet"))


def _places(members: list[pd.DataFrame], entry: EnsembleEntry) -> dict[str, Any]:
    """Combine places, and learn from val how far the truth lies from them.

    The radii are split-conformal, as those of a model (see `waymark.models.calibration.Radii`): the difficulty of a
    record is the models' mean 50 % radius plus their mean distance from what they answer together.
    """
    first, shares = members[0], entry.shares
    lat_lon = np.stack([rows[list(PLACES)].to_numpy(dtype=np.float64) for rows in members])  # (M, N, 2)
    place = combined_places(lat_lon, shares, entry.combine)
    truth = first[["latitude", "longitude"]].to_numpy(dtype=np.float64)
    error_km = haversine_km(torch.from_numpy(place), torch.from_numpy(truth)).numpy()
    apart_km = haversine_km(torch.from_numpy(lat_lon), torch.from_numpy(place)).numpy()  # (M, N)
    radius_km = np.stack([rows["radius_50_km"].to_numpy(dtype=np.float64) for rows in members])
    difficulty_km = np.average(radius_km + apart_km, axis=0, weights=shares)
    found = {
        **dict(zip(PLACES, place.T, strict=True)),
        "distance_km": error_km,
        "constant_km": first["constant_km"],
        "nearest_train_km": first["nearest_train_km"],
    }
    known = (first["split"] == "val").to_numpy() & np.isfinite(error_km) & np.isfinite(difficulty_km)
    if known.any():
        radii = fit_radii(error_km[known], difficulty_km[known])
        found["radius_50_km"] = radii.at(difficulty_km, radii.factor_50)
        found["radius_90_km"] = radii.at(difficulty_km, radii.factor_90)
    return found


def _landmarks(members: list[pd.DataFrame], ranked: pd.DataFrame, precision: Precision) -> dict[str, Any]:
    """Answer with the best candidates, but for those whose score val says to refuse, as of a model."""
    best = ranked[ranked["place"] == 1].set_index("record_id").reindex(members[0]["record_id"])
    landmark, score = best["landmark"].to_numpy(dtype=object), best["score"].to_numpy(dtype=np.float64)
    rank = combined_ranks(ranked, members)
    val = (members[0]["split"] == "val").to_numpy() & np.isfinite(score)
    right = (rank == 1).fillna(False).to_numpy(dtype=bool)
    shown = np.array([len(truth) > 0 for truth in members[0]["landmarks"][val]], dtype=bool)
    threshold = rejection(score[val], right[val], wanted_precision(precision, shown)).threshold
    refused = np.zeros(len(score), dtype=bool) if threshold is None else ~(score >= threshold)
    return {
        "predicted_landmark": np.where(refused, None, landmark),
        "best_landmark": landmark,
        "score": score,
        "confidence": fit_confidence(score[val], right[val]).at(score),
        "rank": rank,
    }


def _write_rows(rows: pd.DataFrame, like: Path, path: Path) -> None:
    """Write rows with the schema of a file of a model; NaN becomes null."""
    table = pa.Table.from_pandas(rows, pq.read_schema(like), preserve_index=False)
    write_table(table.replace_schema_metadata(None), path)


if __name__ == "__main__":
    STAGE.main(ensemble)

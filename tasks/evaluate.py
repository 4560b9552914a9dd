"""Answer for every val and test record, and sum the answers up."""

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tasks.common.outputs import file_digest, read_json, whole_file, whole_folder, write_json
from tasks.common.publishing import SPEED, published
from tasks.common.stage import Stage
from tasks.training.attention import write_attention
from tasks.training.evaluation import Evaluate, in_words, write_figures
from tasks.training.predictions import answer, predictions_of, write_candidates, write_predictions
from tasks.training.tables import open_shards, open_views, read_table
from waymark.images.shards import Shards
from waymark.inference.predictor import Predictor, load_predictor
from waymark.metrics.figures import Figures
from waymark.metrics.queries import Relevant
from waymark.metrics.risk import answer_curve
from waymark.models.size import size_of

logger = logging.getLogger(__name__)

TRAINED = Path("trained")
REPORTS = Path("reports/models")
CHOOSING = ("val_mean_km", "val_gap")  # columns of the curves that each model has, be they empty

STAGE = Stage("evaluate", Evaluate, each="models")


class Evaluation(NamedTuple):
    """What was measured of a model."""

    metrics: dict[str, Figures]  # by split
    images_per_second: float  # that it answered for here, from the shards on


def evaluate(model: str, settings: Evaluate) -> None:
    """Answer for every val and test record, and sum the answers up."""
    checkpoint = TRAINED / model / "model.ckpt"
    predictor = load_predictor(checkpoint, TRAINED / f"{model}-calibration")
    with published(model):
        with whole_folder(REPORTS / model) as folder:
            found = write_evaluation(model, predictor, settings, folder)
        if predictor.locator.config.embeddings is None:  # else it is the speed of the heads alone
            with whole_file(SPEED / f"{model}.json") as path:
                write_json({"checkpoint": file_digest(checkpoint), "images_per_second": found.images_per_second}, path)
    for split, figures in found.metrics.items():
        logger.info("%s %s: %s", model, split, in_words(figures))


def write_evaluation(model: str, predictor: Predictor, settings: Evaluate, folder: Path) -> Evaluation:
    """Ask a model once, and write its answers and what they come to.

    Returns:
        Its figures by split, and how fast it answered.
    """
    table, shards = read_table(), open_shards()
    views = open_views(predictor.locator.config.embeddings)
    start = time.perf_counter()
    answered = answer(predictor, table, views, settings.batch_size)
    seconds = time.perf_counter() - start
    predictions = predictions_of(predictor, table, answered)
    write_predictions(predictions, folder / "predictions.parquet")
    write_candidates(answered, folder / "candidates.parquet")
    write_attention(answered, predictor.locator.config.slots, shards, folder / "attention.parquet")
    heads = {"places": predictor.locator.place_head, "landmarks": predictor.locator.landmark_head}
    answers = [name for name, head in heads.items() if head is not None]
    groups = table.set_index("record_id")["group"]
    metrics = write_figures(predictions, groups, settings.relevant, answers, folder)
    write_json(_about(predictor, TRAINED / model / "model.ckpt"), folder / "size.json")
    _write_plots(model, predictions, settings.relevant, folder / "plots")
    return Evaluation(metrics, _pictures(answered.records, shards) / seconds)


def _about(predictor: Predictor, checkpoint: Path) -> dict[str, Any]:
    """Measure the network, and name its file by its content: `compare` draws what that very network sees."""
    return {**size_of(predictor.locator, checkpoint), "sha256": file_digest(checkpoint)}


def _pictures(records: pd.DataFrame, shards: Shards) -> int:
    """Count the pictures of records."""
    views = zip(records["record_id"], records["views"].map(len), strict=True)
    return sum((record_id, view) in shards for record_id, count in views for view in range(count))


def _write_plots(model: str, predictions: pd.DataFrame, relevant: Relevant, folder: Path) -> None:
    folder.mkdir()
    curves = pd.DataFrame(read_json(TRAINED / model / "training.json")["curves"])
    missing = [name for name in CHOOSING if name not in curves]
    curves.reindex(columns=[*curves, *missing]).to_csv(folder / "curves.csv", index=False)
    test = predictions[predictions["split"] == "test"]
    distance_km = test["distance_km"].dropna().sort_values()
    share = np.arange(1, len(distance_km) + 1) / max(1, len(distance_km))
    pd.DataFrame({"distance_km": distance_km, "share_within": share}).to_csv(folder / "errors.csv", index=False)
    answer_curve(test, relevant).to_csv(folder / "answers.csv", index=False)


if __name__ == "__main__":
    STAGE.main(evaluate)

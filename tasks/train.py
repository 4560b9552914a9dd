"""Train one model of params.yaml; the best epoch on val is the one that is kept."""

import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger

from tasks import tracking
from tasks.examples import INPUTS, read_statistics, read_table
from tasks.lesson import Lesson, Taught, check_entry, prepare, teach
from tasks.model_entry import ModelEntry
from tasks.outputs import whole_folder, work_folder, write_json
from tasks.stage import Stage

TRAINED = Path("trained")

STAGE = Stage("train", ModelEntry, section="models.{entry}", shared=("region",), each="models", check=check_entry)


def train(model: str, entry: ModelEntry) -> None:
    """Train one model of params.yaml; the best epoch on val is the one that is kept."""
    table = read_table()
    lesson = prepare(model, entry, table, read_statistics())
    work = work_folder("train", {"model": model, **asdict(entry)}, [*INPUTS, *Path(entry.target).glob("*.parquet")])
    run_id = tracking.begin_run(model, asdict(entry), work)
    taught = teach(lesson, work, [_logger(run_id)])
    with whole_folder(TRAINED / model) as folder:
        lesson.locator.save(folder / "model.ckpt")
        write_json(_describe(model, lesson, taught), folder / "training.json")
    tracking.end_training(run_id, model, table)
    shutil.rmtree(work)


def _logger(run_id: str) -> MLFlowLogger:
    uri = tracking.tracking_uri()
    return MLFlowLogger(experiment_name=tracking.EXPERIMENT, tracking_uri=uri, run_id=run_id, log_model=False)


def _describe(model: str, lesson: Lesson, taught: Taught) -> dict[str, Any]:
    target = lesson.target
    return {
        "model": model,
        "params": asdict(lesson.entry),
        "crs": target.crs,
        "records": {"train": len(lesson.train), "val": len(lesson.val)},
        "cells": {
            "grid": 0 if target.cells is None else len(target.cells),
            "kept": lesson.locator.blueprint.classes,
        },
        "found": {name: value for name, value in taught.tuned._asdict().items() if value is not None},
        "best_epoch": taught.fitted.best_epoch,
        "best_val_mean_km": taught.fitted.best_val_mean_km,
        "curves": [_without_nan(row) for row in taught.fitted.curves],
    }


def _without_nan(row: dict[str, float]) -> dict[str, float | None]:
    """Write null where an epoch has no figure, such as the loss where no val record lies in a known cell."""
    return {name: None if math.isnan(value) else value for name, value in row.items()}


if __name__ == "__main__":
    STAGE.main(train)

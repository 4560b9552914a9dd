"""Train one model of params.yaml; the best epoch on val is the one that is kept."""

import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.common.outputs import whole_folder, work_folder, write_json
from tasks.common.stage import Stage
from tasks.registry.exposure import write_exposure
from tasks.registry.lineage import lineage
from tasks.registry.training_run import TrainingRun
from tasks.training.models import ModelEntry, check_entry
from tasks.training.setup import TrainingResult, TrainingSetup, prepare, train_locator
from tasks.training.tables import INPUTS, RECORDS, read_statistics, read_table, tables_of
from waymark.data.attribution import attribution_table, write_attribution
from waymark.data.records import read_records

TRAINED = Path("trained")
BEST = ("val_mean_km", "val_gap")

STAGE = Stage("train", ModelEntry, section="models.{entry}", shared=("region",), each="models", check=check_entry)


def train(model: str, entry: ModelEntry) -> None:
    """Train one model of params.yaml; the best epoch on val is the one that is kept."""
    table = read_table()
    setup = prepare(model, entry, table, read_statistics())
    work = work_folder("train", {"model": model, **asdict(entry)}, [*INPUTS, *tables_of(entry.target)])
    made_from = lineage(asdict(entry))
    run = TrainingRun(model, asdict(entry), made_from, work)
    result = train_locator(setup, work, [run])
    with whole_folder(TRAINED / model) as folder:
        setup.locator.save(folder / "model.ckpt")
        write_json({**_describe(model, setup, result), "lineage": made_from.inputs}, folder / "training.json")
        sources = attribution_table(read_records(RECORDS), setup.train.record_ids)
        write_attribution(sources, folder / "attribution.csv")
        write_exposure(table, folder)
    run.end()
    shutil.rmtree(work)


def _describe(model: str, setup: TrainingSetup, result: TrainingResult) -> dict[str, Any]:
    target = setup.target
    return {
        "model": model,
        "params": asdict(setup.entry),
        "crs": target.crs,
        "records": {"train": len(setup.train), "val": len(setup.val)},
        "cells": {
            "grid": 0 if target.cells is None else len(target.cells),
            "kept": setup.locator.config.classes,
        },
        "landmarks": len(setup.locator.config.landmarks),
        "found": {name: value for name, value in result.tuned._asdict().items() if value is not None},
        "best_epoch": result.fitted.best_epoch,
        **{f"best_{name}": value for name, value in result.fitted.best.items() if name in BEST},
        "curves": [_without_nan(row) for row in result.fitted.curves],
    }


def _without_nan(row: dict[str, float]) -> dict[str, float | None]:
    """Write null where an epoch has no figure, such as the loss where no val record lies in a known cell."""
    return {name: None if math.isnan(value) else value for name, value in row.items()}


if __name__ == "__main__":
    STAGE.main(train)

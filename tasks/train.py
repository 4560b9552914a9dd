"""Train one model of params.yaml; the best epoch on val is the one that is kept."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.common.circumstances import circumstances
from tasks.common.outputs import whole_folder, work_folder, write_json
from tasks.common.publishing import begin_record, keep_record, published, write_curves
from tasks.common.stage import Stage
from tasks.training.lineage import lineage
from tasks.training.models import ModelEntry, check_entry
from tasks.training.setup import TrainingResult, TrainingSetup, prepare, train_locator
from tasks.training.tables import (
    INPUTS,
    RECORDS,
    SHARDS,
    about_embeddings,
    read_statistics,
    read_table,
    tables_of,
)
from waymark.data.attribution import attribution_table, write_attribution
from waymark.data.exposure import exposure_table
from waymark.data.records import read_records, write_table

TRAINED = Path("trained")
CHECKPOINT = "model.ckpt"
BEST = ("val_mean_km", "val_gap")

STAGE = Stage("train", ModelEntry, section="models.{entry}", shared=("region",), each="models", check=check_entry)


def train(model: str, entry: ModelEntry) -> None:
    """Train one model of params.yaml; the best epoch on val is the one that is kept."""
    table = read_table()
    setup = prepare(model, entry, table, read_statistics())
    inputs = [*INPUTS, *tables_of(entry.target), *about_embeddings(entry.learns_from)]
    work = work_folder("train", {"model": model, **asdict(entry)}, inputs)
    read = lineage(asdict(entry))
    begin_record(work, model, asdict(entry), lineage=read, circumstances=circumstances(read["data"]))
    with published(model, work):
        result = train_locator(setup, work, partial(_write_curves, work))
        with whole_folder(TRAINED / model) as folder:
            setup.locator.save(folder / CHECKPOINT)
            write_json({**_describe(model, setup, result), "lineage": read}, folder / "training.json")
            sources = attribution_table(read_records(RECORDS), setup.train.record_ids)
            write_attribution(sources, folder / "attribution.csv")
            exposure = exposure_table(table, pq.read_table(SHARDS / "index.parquet"))
            write_table(exposure, folder / "exposure.parquet")  # a later promotion must not test it on these
        keep_record(work, TRAINED / model / CHECKPOINT)
    shutil.rmtree(work)


def _write_curves(work: Path, curves: Sequence[dict[str, float]]) -> None:
    write_curves(work, [_without_nan(row) for row in curves])


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

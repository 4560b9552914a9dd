"""Learn from val how sure a model may be: its temperature and its radii."""

import logging
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.examples import make_examples, open_shards, read_table, read_target, with_places
from tasks.outputs import whole_folder
from tasks.stage import STRICT, Stage
from waymark.images.datamodule import Examples, RecordLoaders
from waymark.metrics.functional import haversine_km
from waymark.models.calibration import RetrievalIndex, fit_radii, fit_temperature, unit_length
from waymark.models.guesser import Calibration, difficulty_km, places, save_calibration
from waymark.models.heads import CellHead
from waymark.models.inference import Outputs, run
from waymark.models.locator import Locator, load_locator

logger = logging.getLogger(__name__)

TRAINED = Path("trained")


@dataclass(frozen=True, config=STRICT)
class Calibrate:
    """Section `calibrate` of params.yaml.

    Args:
        neighbours: training records that are asked how hard a picture is, for heads without probabilities.
        batch_size: records that go through the network at once.
    """

    neighbours: Annotated[int, Field(gt=0)] = 10
    batch_size: Annotated[int, Field(gt=0)] = 64


STAGE = Stage("calibrate", Calibrate, each="models")


def calibrate(model: str, settings: Calibrate) -> None:
    """Learn from val how sure a model may be: its temperature and its radii."""
    locator = load_locator(TRAINED / model / "model.ckpt")
    learnt = learn_certainty(model, locator, read_table(), settings)
    cells = read_target(Path(locator.blueprint.target)).cells
    if isinstance(locator.head, CellHead) and cells is not None:
        cells = cells[cells["cell"].isin(locator.head.cell_ids.tolist())]
    with whole_folder(TRAINED / f"{model}-calibration") as folder:
        save_calibration(learnt.calibration, learnt.index, learnt.record_ids, folder, cells)
    logger.info("%s: temperature %.3g, %s", model, learnt.calibration.temperature, learnt.calibration.radii)


class Certainty(NamedTuple):
    """What val says of a model, and the training records that it is asked with."""

    calibration: Calibration
    index: RetrievalIndex
    record_ids: list[str]


def learn_certainty(model: str, locator: Locator, table: pd.DataFrame, settings: Calibrate) -> Certainty:
    """Learn from the val records of a table how sure a locator may be."""
    examples = {split: _examples(split, model, locator, table) for split in ("train", "val")}
    blueprint = locator.blueprint
    loaders = RecordLoaders(open_shards(), blueprint.slots, settings.batch_size, size_px=blueprint.size_px)
    seen = run(locator, loaders.evaluation(examples["train"]))
    index = RetrievalIndex(unit_length(seen.embedding), examples["train"].lat_lon)
    outputs = run(locator, loaders.evaluation(examples["val"]))
    calibration = _calibrate(locator, outputs, examples["val"], index, settings.neighbours)
    return Certainty(calibration, index, list(examples["train"].record_ids))


def _examples(split: str, model: str, locator: Locator, table: pd.DataFrame) -> Examples:
    rows = with_places(table, split, model)
    nowhere = np.full((len(rows), 2), np.nan)
    cell = read_target(Path(locator.blueprint.target)).places.get("cell")
    label = np.full(len(rows), -1, dtype=np.int64)
    if isinstance(locator.head, CellHead) and cell is not None:
        classes = {number: place for place, number in enumerate(locator.head.cell_ids.tolist())}
        label = np.array([classes.get(number, -1) for number in cell.loc[rows["record_id"]]], dtype=np.int64)
    return make_examples(rows, nowhere, label)


def _calibrate(
    locator: Locator, outputs: Outputs, val: Examples, index: RetrievalIndex, neighbours: int
) -> Calibration:
    answer, _ = places(locator, outputs)
    error_km = haversine_km(torch.from_numpy(answer), torch.from_numpy(val.lat_lon)).numpy()
    head = locator.head
    temperature = 1.0
    if isinstance(head, CellHead):
        temperature = fit_temperature(head.logits(outputs.output), torch.from_numpy(val.label))
    hard_km = difficulty_km(locator, outputs, answer, index, temperature, neighbours)
    return Calibration(temperature, neighbours, fit_radii(error_km, hard_km))


if __name__ == "__main__":
    STAGE.main(calibrate)

"""Learn from val how sure a model may be: its temperature and its radii."""

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
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
from waymark.models.heads import CellsHead
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


STAGE = Stage("calibrate", Calibrate, for_model=True)


def calibrate(model: str, settings: Calibrate) -> None:
    """Learn from val how sure a model may be: its temperature and its radii."""
    locator = load_locator(TRAINED / model / "model.ckpt")
    examples = {split: _examples(split, model, locator) for split in ("train", "val")}
    loaders = RecordLoaders(open_shards(), locator.blueprint.slots, settings.batch_size)
    seen = run(locator, loaders.evaluation(examples["train"]))
    index = RetrievalIndex(unit_length(seen.embedding), examples["train"].lat_lon)
    outputs = run(locator, loaders.evaluation(examples["val"]))
    calibration = _calibrate(locator, outputs, examples["val"], index, settings.neighbours)
    with whole_folder(TRAINED / f"{model}-calibration") as folder:
        save_calibration(calibration, index, list(examples["train"].record_ids), folder)
    logger.info("%s: temperature %.3g, %s", model, calibration.temperature, calibration.radii)


def _examples(split: str, model: str, locator: Locator) -> Examples:
    table = with_places(read_table(), split, model)
    nowhere = np.full((len(table), 2), np.nan)
    cell = read_target(Path(locator.blueprint.target)).places.get("cell")
    label = np.full(len(table), -1, dtype=np.int64)
    if isinstance(locator.head, CellsHead) and cell is not None:
        classes = {number: place for place, number in enumerate(locator.head.cell_ids.tolist())}
        label = np.array([classes.get(number, -1) for number in cell.loc[table["record_id"]]], dtype=np.int64)
    return make_examples(table, nowhere, label)


def _calibrate(
    locator: Locator, outputs: Outputs, val: Examples, index: RetrievalIndex, neighbours: int
) -> Calibration:
    answer, _ = places(locator, outputs)
    error_km = haversine_km(torch.from_numpy(answer), torch.from_numpy(val.lat_lon)).numpy()
    is_cells = isinstance(locator.head, CellsHead)
    temperature = fit_temperature(outputs.output, torch.from_numpy(val.label)) if is_cells else 1.0
    hard_km = difficulty_km(locator, outputs, answer, index, temperature, neighbours)
    return Calibration(temperature, neighbours, fit_radii(error_km, hard_km))


if __name__ == "__main__":
    STAGE.main(calibrate)

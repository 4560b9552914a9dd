"""Learn from val how sure a model may be, for the stages that calibrate one."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic.dataclasses import dataclass

from tasks.common.stage import STRICT
from tasks.training.examples import make_examples, read_target
from tasks.training.landmark_classes import first_landmark
from tasks.training.tables import open_views, places_of, with_places
from waymark.errors import ModelError
from waymark.images.batches import RecordLoaders
from waymark.inference.predictor import difficulty_km, make_recogniser, places
from waymark.metrics.functional import haversine_km
from waymark.models.areas import Areas, fit_areas
from waymark.models.calibration import Radii, RetrievalIndex, fit_radii, fit_temperature, unit_length
from waymark.models.calibration_files import Calibration
from waymark.models.heads import CellHead
from waymark.models.inference import Outputs, run
from waymark.models.locator import Locator
from waymark.models.recognition import Fusion, fit_recognition
from waymark.options.kinds import Batch, Few, Fraction, PositiveFraction


@dataclass(frozen=True, config=STRICT)
class Calibrate:
    """Section `calibrate` of params.yaml.

    Args:
        neighbours: training records that are asked how hard a picture is, for heads without probabilities.
        batch_size: records that go through the network at once.
        retrieval_weight: weight of similar training records against the head's score of a landmark, 0 to 1;
            auto takes what gives the highest GAP on val.
        precision: share of right answers on val that is wanted, below whose score the answer is that there is no
            landmark; auto is 0.9 where val has records without a landmark, else null, which always names one.
    """

    neighbours: Few = 10
    batch_size: Batch = 64
    retrieval_weight: Fraction | Literal["auto"] = "auto"
    precision: PositiveFraction | Literal["auto"] | None = "auto"


class Certainty(NamedTuple):
    """What val says of a model, and the training records that it is asked with."""

    calibration: Calibration
    index: RetrievalIndex
    record_ids: list[str]


def learn_certainty(model: str, locator: Locator, table: pd.DataFrame, settings: Calibrate) -> Certainty:
    """Learn from the val records of a table how sure a locator may be."""
    train, val = (_rows(table, split, model, locator) for split in ("train", "val"))
    seen, outputs = (_run(locator, rows, settings.batch_size) for rows in (train, val))
    landmarks = None if locator.landmark_head is None else first_landmark(train).to_numpy()
    index = RetrievalIndex(unit_length(seen.embedding), places_of(train), landmarks)
    temperature, radii = _certainty_of_places(locator, outputs, val, index, settings.neighbours)
    neighbours = None if radii is None else settings.neighbours
    fusion = _fusion(locator, outputs, val, index, settings)
    calibration = Calibration(temperature, neighbours, radii, fusion, _areas(locator, outputs, val, temperature))
    return Certainty(calibration, index, train["record_id"].tolist())


def _rows(table: pd.DataFrame, split: str, model: str, locator: Locator) -> pd.DataFrame:
    """Choose the records from which a head could learn; of val all, where landmarks are asked for.

    Raises:
        ModelError: there are none.
    """
    placed = None if locator.place_head is None else with_places(table, split, model)
    if locator.landmark_head is None:
        return table[table["split"] == split] if placed is None else placed
    rows = table[table["split"] == split]
    if split == "train":
        wanted = first_landmark(rows).notna()
        rows = rows[wanted if placed is None else wanted | rows.index.isin(placed.index)]
    if not first_landmark(rows).notna().any():
        raise ModelError(
            f"{model} knows landmarks, but no {split} record shows one; change split, or take {model} out of models"
        )
    return rows


def _run(locator: Locator, rows: pd.DataFrame, batch_size: int) -> Outputs:
    config = locator.config
    loaders = RecordLoaders(
        open_views(config.embeddings),
        config.slots,
        batch_size,
        size_px=config.size_px,
        interpolation=config.interpolation,
    )
    nothing = np.full((len(rows), 2), np.nan), np.full(len(rows), -1, dtype=np.int64)
    return run(locator, loaders.evaluation(make_examples(rows, *nothing)), landmark=False)


def _certainty_of_places(
    locator: Locator, outputs: Outputs, val: pd.DataFrame, index: RetrievalIndex, neighbours: int
) -> tuple[float | None, Radii | None]:
    """Learn temperature and radii from the val records with coordinates; None without a head for places."""
    head = locator.place_head
    if head is None:
        return None, None
    placed = val["latitude"].notna().to_numpy(copy=True)
    val, outputs = val[placed], Outputs(*(part[placed] for part in outputs[:3]))
    answer, _ = places(locator, outputs)
    error_km = haversine_km(torch.from_numpy(answer), torch.from_numpy(places_of(val))).numpy()
    temperature = 1.0
    if isinstance(head, CellHead):
        temperature = fit_temperature(head.logits(outputs.place), torch.from_numpy(_labels(val, head, locator)))
    hard_km = difficulty_km(locator, outputs, answer, index, temperature, neighbours)
    return temperature, fit_radii(error_km, hard_km)


def _areas(locator: Locator, outputs: Outputs, val: pd.DataFrame, temperature: float | None) -> Areas | None:
    """Learn from the val records with coordinates which cells are the answer as an area; None without a grid."""
    head = locator.place_head
    if not isinstance(head, CellHead) or not locator.config.head.parts().place.has_cells or temperature is None:
        return None
    placed = val["latitude"].notna().to_numpy(copy=True)
    label = _labels(val[placed], head, locator)
    chances = head.probabilities(outputs.place[torch.from_numpy(placed)], temperature).numpy()
    own = chances[np.arange(len(label)), label]
    return fit_areas(np.where(label >= 0, own, 0.0))


def _labels(rows: pd.DataFrame, head: CellHead, locator: Locator) -> np.ndarray:
    """Look up the `(N,)` class of each record's cell, -1 where it is none."""
    cell = read_target(Path(locator.config.target)).places.get("cell")
    if cell is None:
        return np.full(len(rows), -1, dtype=np.int64)
    classes = {number: place for place, number in enumerate(head.cell_ids.tolist())}
    return np.array([classes.get(number, -1) for number in cell.loc[rows["record_id"]]], dtype=np.int64)


def _fusion(
    locator: Locator, outputs: Outputs, val: pd.DataFrame, index: RetrievalIndex, settings: Calibrate
) -> Fusion | None:
    if locator.landmark_head is None:
        return None
    return fit_recognition(
        make_recogniser(locator, index),
        outputs.embedding,
        val["landmarks"].tolist(),
        retrieval_weight=settings.retrieval_weight,
        precision=settings.precision,
    )

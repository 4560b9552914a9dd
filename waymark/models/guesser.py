"""A locator and its calibration: the answer, and how far it may be off."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from waymark.errors import ModelError
from waymark.images.datamodule import Batch
from waymark.models.calibration import Radii, RetrievalIndex, expected_distance_km
from waymark.models.decoding import row_chunks
from waymark.models.heads import CellHead
from waymark.models.inference import Outputs, run
from waymark.models.locator import Locator, load_locator


@dataclass(frozen=True)
class Calibration:
    """What validation says of a model.

    Args:
        temperature: what the logits of cells are divided by.
        neighbours: records asked for the spread, for heads without probabilities.
        radii: from difficulties to radii.
    """

    temperature: float
    neighbours: int
    radii: Radii


@dataclass(frozen=True)
class Guesses:
    """Answers for N records; radii are NaN where validation was too small to promise them."""

    lat_lon: NDArray[np.float64]  # (N, 2) degrees
    cell: NDArray[np.int64]  # (N,) number of the most probable cell, -1 for heads without cells
    probability: NDArray[np.float64]  # (N,) of that cell, NaN for heads without cells
    radius_50_km: NDArray[np.float64]  # (N,)
    radius_90_km: NDArray[np.float64]  # (N,)


class Guesser:
    """Answers for records.

    Args:
        locator: the network.
        calibration: of its certainty.
        index: training records by their embedding.
        cells: `cell` and `geometry` of the grid's cells, where the model has any and they were kept.
    """

    def __init__(
        self,
        locator: Locator,
        calibration: Calibration,
        index: RetrievalIndex,
        cells: gpd.GeoDataFrame | None = None,
    ) -> None:
        self.locator, self.calibration, self.index, self.cells = locator, calibration, index, cells

    def guess(self, batches: Iterable[Batch]) -> Guesses:
        """Answer for each record of the batches, in order."""
        outputs = run(self.locator, batches)
        lat_lon, choice = places(self.locator, outputs)
        head = self.locator.head
        cell, probability = choice, np.full(len(choice), np.nan)
        if isinstance(head, CellHead):
            cell = head.cell_ids.numpy()[choice]
            probability = _highest_probability(head, outputs.output, self.calibration.temperature)
        hard_km = difficulty_km(
            self.locator, outputs, lat_lon, self.index, self.calibration.temperature, self.calibration.neighbours
        )
        radii = self.calibration.radii
        return Guesses(
            lat_lon, cell, probability, radii.at(hard_km, radii.factor_50), radii.at(hard_km, radii.factor_90)
        )


def places(locator: Locator, outputs: Outputs) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give `(N, 2)` latitude, longitude in degrees and `(N,)` most probable classes."""
    place = locator.place(outputs.output)
    return place.lat_lon.numpy(), place.choice.numpy()


def difficulty_km(
    locator: Locator,
    outputs: Outputs,
    answer: NDArray[np.float64],
    index: RetrievalIndex,
    temperature: float,
    neighbours: int,
) -> NDArray[np.float64]:
    """Say how far off `(N, 2)` answers are expected to be, in km, before any radius is promised.

    For cells it is the expected distance under their probabilities, for other heads the
    distance to the training records that look most alike.
    """
    head = locator.head
    if not isinstance(head, CellHead):
        return index.spread_km(outputs.embedding, answer, neighbours)
    expected_km = np.empty(len(answer))
    for rows in row_chunks(*outputs.output.shape):
        output = outputs.output[rows]
        chances, cells = head.probabilities(output, temperature), head.cells_deg(output).numpy()
        expected_km[rows] = expected_distance_km(chances, cells, answer[rows])
    return expected_km


def _highest_probability(head: CellHead, output: Tensor, temperature: float) -> NDArray[np.float64]:
    highest = np.empty(len(output))
    for rows in row_chunks(*output.shape):
        highest[rows] = head.probabilities(output[rows], temperature).amax(dim=1).numpy()
    return highest


def save_calibration(
    calibration: Calibration,
    index: RetrievalIndex,
    record_ids: list[str],
    folder: Path,
    cells: gpd.GeoDataFrame | None = None,
) -> None:
    """Write `calibration.json` and `index.parquet`, and `cells.parquet` where there are cells.

    Args:
        calibration: of the model.
        index: of its training records.
        record_ids: of those.
        folder: where to.
        cells: the grid; `cell` and `geometry` are kept, to show where a model believes a record to be.
    """
    (folder / "calibration.json").write_text(json.dumps(asdict(calibration), indent=2) + "\n")
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(index.embedding.ravel()), index.embedding.shape[1])
    table = pa.table(
        {
            "record_id": record_ids,
            "latitude": index.lat_lon[:, 0],
            "longitude": index.lat_lon[:, 1],
            "embedding": embedding,
        }
    )
    pq.write_table(table, folder / "index.parquet", compression="zstd")
    if cells is not None:
        cells[["cell", "geometry"]].reset_index(drop=True).to_parquet(folder / "cells.parquet", compression="zstd")


def load_guesser(checkpoint: Path, calibration: Path) -> Guesser:
    """Load a guesser from a checkpoint and the folder of its calibration.

    Raises:
        ModelError: a file is missing or of another format.
    """
    try:
        content = json.loads((calibration / "calibration.json").read_text())
        table = pq.read_table(calibration / "index.parquet")
        outlines = calibration / "cells.parquet"
        cells = gpd.read_parquet(outlines) if outlines.exists() else None
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename} is missing; calibrate the model first") from None
    except (ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{calibration} is no calibration ({reason}); calibrate the model again") from error
    try:
        embedding = table["embedding"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        lat_lon = np.stack([table["latitude"].to_numpy(), table["longitude"].to_numpy()], axis=1)
        kept = Calibration(content["temperature"], content["neighbours"], Radii(**content["radii"]))
    except (KeyError, TypeError) as error:
        raise ModelError(f"{calibration} is of another format ({error}); calibrate the model again") from error
    return Guesser(load_locator(checkpoint), kept, RetrievalIndex(embedding, lat_lon), cells)

"""A locator and its calibration: the answers, and how sure they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from waymark.errors import ModelError
from waymark.images.batches import Batch
from waymark.models.areas import SHARES, members
from waymark.models.calibration import RetrievalIndex, expected_distance_km
from waymark.models.calibration_files import Calibration, read_calibration
from waymark.models.decoding import row_chunks
from waymark.models.heads import CellHead
from waymark.models.inference import Outputs, run
from waymark.models.locator import Locator, load_locator
from waymark.models.recognition import CANDIDATES, Recogniser, Truths

Floats = NDArray[np.float64]
Names = NDArray[np.object_]


@dataclass(frozen=True)
class Guesses:
    """Answers for N records. Places are NaN and -1 for a model without them, landmarks None, NaN and -1.

    Radii are NaN where validation was too small to promise them.
    """

    lat_lon: Floats  # (N, 2) degrees
    cell: NDArray[np.int64]  # (N,) number of the most probable cell, -1 for heads without cells
    probability: Floats  # (N,) of that cell, NaN for heads without cells
    radius_50_km: Floats  # (N,)
    radius_90_km: Floats  # (N,)
    landmark: Names  # (N,) id of the answer; None where it is refused: no landmark
    landmark_name: Names  # (N,) what people call it, None likewise
    best_landmark: Names  # (N,) id of the best candidate, refused or not
    landmark_score: Floats  # (N,) of that candidate, higher is more certain; it has no bounds
    landmark_confidence: Floats  # (N,) 0 to 1, how probable it is that this candidate is right; NaN where unknown
    candidates: Names  # (N, 5) ids, the best first; None where there are fewer landmarks
    candidate_scores: Floats  # (N, 5) of them
    rank: NDArray[np.int64]  # (N,) of the best true landmark among all, from 1 on; -1 where none is known
    area_50_km2: Floats | None = None  # (N,) of the cells that hold half of the places, see waymark/models/areas.py
    area_90_km2: Floats | None = None  # (N,) likewise
    in_area_50: NDArray[np.bool_] | None = None  # (N,) whether the area holds the true cell, where that is known
    in_area_90: NDArray[np.bool_] | None = None  # (N,) likewise
    attention: NDArray[np.float32] | None = None  # (N, V, h, w) from 0 to 1, where the network has a map
    best_cells: Floats | None = None  # (N, k, 3) latitude, longitude, probability of the best cells, where asked for


class Predictor:
    """Answers for records.

    Args:
        locator: the network.
        calibration: of its certainty.
        index: training records by their embedding.
        cells: `cell`, `area_km2` and `geometry` of the grid's cells, where the model has any and they were kept.
        names: what people call landmarks, by their id, besides those that the network itself knows.
    """

    def __init__(
        self,
        locator: Locator,
        calibration: Calibration,
        index: RetrievalIndex,
        cells: gpd.GeoDataFrame | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.locator, self.calibration, self.index, self.cells = locator, calibration, index, cells
        config = locator.config
        self.names = {**dict(zip(config.landmarks, config.landmark_names, strict=True)), **(names or {})}
        self.recogniser = None if calibration.landmark is None else make_recogniser(locator, index)

    def predict(
        self,
        batches: Iterable[Batch],
        truths: Truths | None = None,
        *,
        best_cells: int = 0,
        true_cells: NDArray[np.int64] | None = None,
    ) -> Guesses:
        """Answer for each record of the batches, in order.

        Args:
            batches: records.
            truths: landmarks that each record shows, whose rank is asked for; None where nobody knows.
            true_cells: `(N,)` number of each record's cell, -1 where unknown, for areas; None measures none.
            best_cells: how many cells are listed for each record, for heads that have any.
        """
        outputs = run(self.locator, batches, landmark=False)
        if not (outputs.embedding.isfinite().all() and outputs.place.isfinite().all()):
            raise ModelError("the network's numbers are NaN or infinite; train the model again")
        maps = None if outputs.maps is None else outputs.maps.numpy()
        head, cells = self.locator.place_head, None
        if best_cells and isinstance(head, CellHead):
            cells = _best_cells(head, outputs.place, self.calibration.temperature or 1.0, best_cells)
        return Guesses(
            **self._places(outputs),
            **self._areas(outputs, true_cells),
            **self._landmarks(outputs.embedding, truths),
            attention=maps,
            best_cells=cells,
        )

    def attention(self, batch: Batch) -> Tensor | None:
        """Find where a batch is looked at, `(B, V, h, w)` from 0 to 1; None for a network without such a map."""
        return run(self.locator, [batch], landmark=False).maps

    def _places(self, outputs: Outputs) -> dict[str, Any]:
        known, count, head = self.calibration, len(outputs.embedding), self.locator.place_head
        nothing = np.full(count, np.nan)
        if head is None or known.radii is None:
            empty = dict.fromkeys(("probability", "radius_50_km", "radius_90_km"), nothing)
            return {"lat_lon": np.full((count, 2), np.nan), "cell": np.full(count, -1, dtype=np.int64), **empty}
        lat_lon, choice = places(self.locator, outputs)
        cell, probability = choice, nothing
        if isinstance(head, CellHead):
            cell = head.cell_ids.numpy()[choice]
            probability = _highest_probability(head, outputs.place, known.temperature or 1.0)
        hard_km = difficulty_km(
            self.locator, outputs, lat_lon, self.index, known.temperature or 1.0, known.neighbours or 1
        )
        radii = {
            f"radius_{share}_km": known.radii.at(hard_km, factor)
            for share, factor in ((50, known.radii.factor_50), (90, known.radii.factor_90))
        }
        return {"lat_lon": lat_lon, "cell": cell, "probability": probability, **radii}

    def _areas(self, outputs: Outputs, true_cells: NDArray[np.int64] | None) -> dict[str, Any]:
        """Measure the areas of the records, and ask whether they hold the true cells."""
        head, known = self.locator.place_head, self.calibration.areas
        if true_cells is None or not isinstance(head, CellHead) or known is None or self.cells is None:
            return {}
        cell_ids = head.cell_ids.numpy()
        area_km2 = self.cells.set_index("cell")["area_km2"].loc[cell_ids].to_numpy()
        count, least = len(outputs.place), {share: known.least(share) for share in SHARES}
        found = {
            name: np.empty(count, dtype=kind)
            for share in SHARES
            if least[share] is not None
            for name, kind in ((f"area_{share}_km2", np.float64), (f"in_area_{share}", np.bool_))
        }
        for rows in row_chunks(*outputs.place.shape):
            chances = head.probabilities(outputs.place[rows], self.calibration.temperature or 1.0).numpy()
            for share, probability in least.items():
                if probability is not None:
                    marked = members(chances, probability)
                    found[f"area_{share}_km2"][rows] = marked @ area_km2
                    found[f"in_area_{share}"][rows] = (marked & (cell_ids == true_cells[rows, None])).any(axis=1)
        return found

    def _landmarks(self, embedding: Tensor, truths: Truths | None) -> dict[str, Any]:
        candidates = np.full((len(embedding), CANDIDATES), None, dtype=object)
        scores, rank = np.full(candidates.shape, np.nan), np.full(len(embedding), -1, dtype=np.int64)
        answered, confidence = np.zeros(len(embedding), dtype=bool), np.full(len(embedding), np.nan)
        if self.recogniser is not None and self.calibration.landmark is not None:
            found = self.recogniser.recognise(embedding, self.calibration.landmark, truths)
            kept = found.candidates.shape[1]
            candidates[:, :kept] = np.array(self.recogniser.landmarks, dtype=object)[found.candidates]
            scores[:, :kept], rank = found.scores, found.rank
            threshold, curve = self.calibration.landmark.threshold, self.calibration.landmark.confidence
            answered = scores[:, 0] >= (-np.inf if threshold is None else threshold)
            confidence = confidence if curve is None else curve.at(scores[:, 0])
        landmark = candidates[:, 0].copy()
        landmark[~answered] = None
        return {
            "landmark": landmark,
            "landmark_name": np.array([self.names.get(one, one) for one in landmark], dtype=object),
            "best_landmark": candidates[:, 0],
            "landmark_score": scores[:, 0],
            "landmark_confidence": confidence,
            "candidates": candidates,
            "candidate_scores": scores,
            "rank": rank,
        }


def make_recogniser(locator: Locator, index: RetrievalIndex) -> Recogniser:
    """Recognise landmarks with the head of a network and the training records that show one.

    Raises:
        ModelError: the network has no head for landmarks, or no training record shows one.
    """
    head = locator.landmark_head
    if head is None or index.landmark is None or not (shown := index.landmark != np.array(None)).any():
        raise ModelError("this model and its index know no landmark; calibrate the model again")
    return Recogniser(
        lambda embedding: head.scores(head(embedding)),
        locator.config.landmarks,
        index.embedding[shown],
        index.landmark[shown],
    )


def places(locator: Locator, outputs: Outputs) -> tuple[Floats, NDArray[np.int64]]:
    """Compute `(N, 2)` latitude, longitude in degrees and `(N,)` most probable classes."""
    place = locator.place(outputs.place)
    return place.lat_lon.numpy(), place.choice.numpy()


def difficulty_km(
    locator: Locator,
    outputs: Outputs,
    answer: Floats,
    index: RetrievalIndex,
    temperature: float,
    neighbours: int,
) -> Floats:
    """Estimate how far off `(N, 2)` answers are, in km, before calibration.

    For cells it is the expected distance under their probabilities, for other heads the
    distance to the training records whose embeddings are nearest.
    """
    head = locator.place_head
    if not isinstance(head, CellHead):
        return index.spread_km(outputs.embedding, answer, neighbours)
    expected_km = np.empty(len(answer))
    for rows in row_chunks(*outputs.place.shape):
        output = outputs.place[rows]
        chances, cells = head.probabilities(output, temperature), head.cells_deg(output).numpy()
        expected_km[rows] = expected_distance_km(chances, cells, answer[rows])
    return expected_km


def _highest_probability(head: CellHead, output: Tensor, temperature: float) -> Floats:
    highest = np.empty(len(output))
    for rows in row_chunks(*output.shape):
        highest[rows] = head.probabilities(output[rows], temperature).amax(dim=1).numpy()
    return highest


def _best_cells(head: CellHead, output: Tensor, temperature: float, count: int) -> Floats:
    """List the `(N, k, 3)` latitude, longitude and probability of each record's best cells."""
    found = []
    for rows in row_chunks(*output.shape):
        best = head.probabilities(output[rows], temperature).topk(min(count, len(head.cell_ids)), dim=1)
        lat_lon = head.cells_deg(output[rows]).expand(len(best.indices), -1, -1)  # (B, K, 2)
        places = lat_lon.gather(1, best.indices[..., None].expand(-1, -1, 2))
        found.append(torch.cat([places, best.values[..., None]], dim=2))
    return torch.cat(found).numpy() if found else np.empty((0, 0, 3))


def load_predictor(checkpoint: Path, calibration: Path) -> Predictor:
    """Load a predictor from a checkpoint and the folder of its calibration, and ask it once.

    Raises:
        ModelError: a file is missing or of another format, or the two do not make a model that answers.
    """
    locator = load_locator(checkpoint)
    known, index, cells, names = read_calibration(calibration, locator)
    try:
        predictor = Predictor(locator, known, index, cells, names)
        predictor.predict([_blank(locator)])
    except ModelError:
        raise
    except Exception as error:  # whatever a file may say, it ends here
        raise ModelError(
            f"{checkpoint} and {calibration} make no model that answers ({type(error).__name__}); calibrate it again"
        ) from error
    return predictor


def _blank(locator: Locator) -> Batch:
    """Make a batch of one black record."""
    slots, size_px = len(locator.config.slots), locator.config.size_px
    nowhere, unknown = torch.full((1, 2), torch.nan, dtype=torch.float64), torch.tensor([-1])
    views = torch.zeros(1, slots, 3, size_px, size_px, dtype=torch.uint8)
    return Batch(views, torch.ones(1, slots, dtype=torch.bool), nowhere, nowhere, unknown, unknown)

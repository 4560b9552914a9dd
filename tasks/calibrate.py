"""Learn from val how sure a model may be: temperature and radii of places, retrieval and refusal of landmarks."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.common.outputs import whole_folder
from tasks.common.stage import Stage
from tasks.training.certainty import Calibrate, learn_certainty
from tasks.training.examples import read_target
from tasks.training.landmark_classes import NAMES
from tasks.training.tables import read_table
from waymark.models.calibration import RetrievalIndex
from waymark.models.calibration_files import Calibration, save_calibration
from waymark.models.heads import CellHead
from waymark.models.locator import load_locator
from waymark.models.recognition import Fusion

logger = logging.getLogger(__name__)

TRAINED = Path("trained")


STAGE = Stage("calibrate", Calibrate, each="models")


def calibrate(model: str, settings: Calibrate) -> None:
    """Learn from val how sure a model may be: temperature and radii of places, retrieval and refusal of landmarks."""
    locator = load_locator(TRAINED / model / "model.ckpt")
    learnt = learn_certainty(model, locator, read_table(), settings)
    cells = read_target(Path(locator.config.target)).cells
    if isinstance(locator.place_head, CellHead) and cells is not None:
        cells = cells[cells["cell"].isin(locator.place_head.cell_ids.tolist())]
    names = _names(learnt.index)
    with whole_folder(TRAINED / f"{model}-calibration") as folder:
        save_calibration(learnt.calibration, learnt.index, learnt.record_ids, folder, cells, names)
    logger.info("%s: %s", model, _in_words(learnt.calibration))


def _names(index: RetrievalIndex) -> dict[str, str] | None:
    """Look up the names of the landmarks in the index; None for a model that names none."""
    if index.landmark is None:
        return None
    names = pd.read_parquet(NAMES).set_index("landmark")["name"]
    return {landmark: names[landmark] for landmark in sorted({known for known in index.landmark if known is not None})}


def _in_words(calibration: Calibration) -> str:
    parts: list[Any] = []
    if calibration.radii is not None:
        found = [share for share in (50, 90) if getattr(calibration.radii, f"factor_{share}") is not None]
        radii = " and ".join(f"{share} %" for share in found) + " of cases" if found else "none: val is too small"
        parts.append(f"temperature {calibration.temperature:.3g}, radii for {radii}")
    if (found := calibration.landmark) is not None:
        parts.append(f"retrieval weight {found.retrieval_weight:g}, {_refusal(found)}")
    return "; ".join(parts)


def _refusal(found: Fusion) -> str:
    """Word from which confidence on a landmark is named, and what that means on val."""
    if found.reached_precision is None:
        return "refuses all of val"
    refuses = "never refuses"
    if found.threshold is not None and found.confidence is not None:
        refuses = f"names a landmark from a confidence of {float(found.confidence.at(found.threshold)):.2f} on"
    return f"{refuses}: {found.answered:.1%} of val answered, {found.reached_precision:.1%} of these right"


if __name__ == "__main__":
    STAGE.main(calibrate)

"""The registered model: from the bytes of pictures to a place.

MLflow loads this file as the model's code, and the weights as an artifact that is read
without unpickling anything. No other module of the library knows MLflow.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import ModelSignature, set_model
from mlflow.models.model import ModelInfo
from mlflow.pyfunc import log_model
from mlflow.pyfunc.model import PythonModel
from mlflow.types.schema import Array, ColSpec, DataType, Schema

from waymark.errors import ImageError
from waymark.images.datamodule import Batch, stack
from waymark.images.decode import MAX_PIXELS, square_pixels
from waymark.images.views import Heading, place_views
from waymark.models.guesser import Guesser, load_guesser

BATCH_SIZE = 64
REQUIREMENTS = (
    "geopandas", "imagehash", "lightning", "mlflow", "numpy", "pandas", "pebble", "pillow", "pillow-heif", "pyarrow",
    "pycountry", "pyproj", "scikit-learn", "scipy", "shapely", "torch", "torchmetrics", "torchvision", "tqdm",
)  # fmt: skip
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(Array(DataType.binary), "views"),
            ColSpec(Array(DataType.double), "headings_deg", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.double, "latitude"),
            ColSpec(DataType.double, "longitude"),
            ColSpec(DataType.double, "radius_50_km"),
            ColSpec(DataType.double, "radius_90_km"),
            ColSpec(DataType.long, "cell"),
            ColSpec(DataType.double, "probability"),
        ]
    ),
)


class LocationModel(PythonModel):
    """Answers where pictures were taken.

    The input has one row for each place or photo: `views`, a list of image files as bytes, and
    optionally `headings_deg`, the heading of each. The output has latitude and longitude in
    degrees, the radii in km that hold the truth in 50 % and 90 % of cases (NaN where validation
    was too small to promise them), and the most probable cell with its probability (-1 and NaN
    for models without cells).
    """

    def load_context(self, context: Any) -> None:
        """Load checkpoint and calibration."""
        paths = context.artifacts
        self.guesser = load_guesser(Path(paths["checkpoint"]), Path(paths["calibration"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Answer for each row."""
        return predict(self.guesser, model_input)


def predict(guesser: Guesser, rows: pd.DataFrame) -> pd.DataFrame:
    """Answer for rows of `views` and, where known, `headings_deg`.

    Raises:
        ImageError: a row has no view, or a view cannot be decoded.
    """
    examples = [_example(guesser, number, row) for number, row in enumerate(rows.to_dict("records"))]
    batches = [stack(examples[start : start + BATCH_SIZE]) for start in range(0, len(examples), BATCH_SIZE)]
    guesses = guesser.guess(batches)
    return pd.DataFrame(
        {
            "latitude": guesses.lat_lon[:, 0],
            "longitude": guesses.lat_lon[:, 1],
            "radius_50_km": guesses.radius_50_km,
            "radius_90_km": guesses.radius_90_km,
            "cell": guesses.cell,
            "probability": guesses.probability,
        }
    )


def _example(guesser: Guesser, number: int, row: Mapping[Any, Any]) -> Batch:
    blueprint = guesser.locator.blueprint
    views: Sequence[bytes] = row["views"]
    if not len(views):
        raise ImageError(f"row {number} has no view; give it the bytes of at least one picture")
    slots = blueprint.slots
    pixels = np.zeros((len(slots), blueprint.size_px, blueprint.size_px, 3), dtype=np.uint8)
    present = np.zeros(len(slots), dtype=bool)
    for view, slot in enumerate(place_views(_headings(row.get("headings_deg"), len(views)), slots)):
        if slot is not None:
            pixels[slot], present[slot] = _decode(views[view], number, view, blueprint.size_px), True
    nowhere = torch.full((2,), torch.nan, dtype=torch.float64)
    return Batch(
        torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(present), nowhere, nowhere, torch.tensor(-1)
    )


def _headings(given: Any, views: int) -> list[Heading]:
    known: list[Heading] = (
        [] if given is None or np.isscalar(given) else [None if h is None or np.isnan(h) else h for h in given]
    )
    return [*known, *[None] * (views - len(known))][:views]


def _decode(data: bytes, row: int, view: int, size_px: int) -> Any:
    try:
        return square_pixels(_raw(data), size_px, max_pixels=MAX_PIXELS)
    except Exception as error:  # decoders raise anything on hostile bytes
        raise ImageError(f"view {view} of row {row} cannot be decoded: {error}") from error


def _raw(data: bytes) -> bytes:
    """Undo the base64 in which JSON carries bytes: MLflow's server leaves it on those inside arrays.

    No picture format consists of letters and digits alone, so that the two cannot be taken for each other.
    """
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        return data


def log_location_model(checkpoint: Path, calibration: Path, example: pd.DataFrame, registered_as: str) -> ModelInfo:
    """Log the model with the active run, and register it as a new version.

    Args:
        checkpoint: of the locator.
        calibration: folder of its calibration.
        example: a row such as people will send.
        registered_as: name in the registry.
    """
    package = Path(__file__).parent
    info: ModelInfo = log_model(
        name="model",
        python_model=str(package / "serving.py"),
        artifacts={"checkpoint": str(checkpoint), "calibration": str(calibration)},
        code_paths=[str(package)],
        signature=SIGNATURE,
        input_example=example,
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        registered_model_name=registered_as,
    )
    return info


set_model(LocationModel())

"""The registered model: from the bytes of pictures to place and landmark, and its way into the registry.

MLflow loads this file as the model's code, and the weights as an artifact that is read without unpickling anything.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, set_model
from mlflow.models.model import ModelInfo
from mlflow.pyfunc import log_model
from mlflow.pyfunc.model import PythonModel
from mlflow.types.schema import Array, ColSpec, DataType, Schema

from waymark.inference.answering import answer_bytes
from waymark.inference.bundle import ModelFiles
from waymark.inference.predictor import load_predictor

REQUIREMENTS = (
    "faiss-cpu", "geopandas", "huggingface-hub", "imagehash", "lightning", "mlflow", "numpy", "pandas", "pebble",
    "pillow", "pillow-heif", "pyarrow", "pycountry", "pydantic", "pyproj", "safetensors", "scikit-learn", "scipy",
    "shapely", "timm", "torch", "torchmetrics", "torchvision", "tqdm",
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
            *(ColSpec(DataType.double, name, required=False) for name in ("latitude", "longitude")),
            *(ColSpec(DataType.double, name, required=False) for name in ("radius_50_km", "radius_90_km")),
            ColSpec(DataType.long, "cell"),
            ColSpec(DataType.double, "probability", required=False),
            *(ColSpec(DataType.string, name, required=False) for name in ("landmark", "landmark_name")),
            *(ColSpec(DataType.double, name, required=False) for name in ("landmark_score", "landmark_confidence")),
            ColSpec(DataType.string, "error", required=False),
        ]
    ),
)


class WaymarkModel(PythonModel):
    """Answers where pictures were taken and which landmark they show, or what of both it has learnt.

    The input has one row for each place or photo: `views`, a list of image files as bytes, and
    optionally `headings_deg`, the heading of each. The output has a row for each: latitude and longitude in
    degrees, the radii in km that hold the truth in 50 % and 90 % of cases (null where validation
    was too small to promise them), and the most probable cell with its probability (-1 and null
    for models without cells); the landmark, its readable name, its score (without bounds, higher is surer) and its
    confidence (0 to 1, how probable it is that it is right).
    Without a landmark the first two are null, and the others are those of the best candidate. What a
    model has not learnt is null throughout. `error` says what is wrong with a row, and is null where nothing is.
    """

    def load_context(self, context: Any) -> None:
        """Load checkpoint and calibration."""
        paths = context.artifacts
        self.predictor = load_predictor(Path(paths["checkpoint"]), Path(paths["calibration"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Answer for each row."""
        views = pd.Series(map(_raw_views, model_input["views"]), index=model_input.index, dtype=object)
        return _with_null(answer_bytes(self.predictor, model_input.assign(views=views)))


def _with_null(answers: pd.DataFrame) -> pd.DataFrame:
    """Put None in the place of NaN, which JSON does not know and MLflow's server would write all the same."""
    unknown = answers.columns[answers.isna().any()]
    return answers.assign(**{name: answers[name].astype(object).where(answers[name].notna(), None) for name in unknown})


def _raw_views(views: Any) -> Any:
    return [_raw(data) for data in views] if isinstance(views, list | tuple | np.ndarray) else views


def _raw(data: Any) -> Any:
    """Undo the base64 in which JSON carries bytes: MLflow's server leaves it on those inside arrays.

    No picture format consists of letters and digits alone, so that the two cannot be taken for each other.
    """
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except (binascii.Error, AttributeError, TypeError):
        return data


def log_registered_model(files: ModelFiles, example: pd.DataFrame, registered_as: str) -> ModelInfo:
    """Log a model with the active run, and register it as a new version.

    Args:
        files: of the model.
        example: a row such as people will send.
        registered_as: name in the registry.
    """
    package = Path(__file__).parent.parent
    parts = {"checkpoint": files.checkpoint, "calibration": files.calibration, "attribution": files.attribution}
    info: ModelInfo = log_model(
        name="model",
        python_model=__file__,
        artifacts={part: str(path) for part, path in parts.items() if path is not None},
        code_paths=[str(package)],
        signature=SIGNATURE,
        input_example=example,
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        registered_model_name=registered_as,
    )
    return info


set_model(WaymarkModel())

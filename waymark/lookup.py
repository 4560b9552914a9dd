"""Find the model that somebody means: a file, a folder, or a version in the registry."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from waymark.errors import ModelError
from waymark.exported import ModelFiles, is_exported, unpack_exported
from waymark.models.guesser import Guesser, load_guesser
from waymark.registry import DEFAULT_ALIAS, is_reference, registry_uri

TRAINED = Path("trained")
REPORTS = Path("reports")
CHECKPOINT = "model.ckpt"


class Model(NamedTuple):
    """A model that is ready to answer."""

    name: str
    guesser: Guesser


def load_model(reference: str | None) -> Model:
    """Load a model; see `model_files` for what a reference may be."""
    with model_files(reference) as files:
        return Model(files.name, load_guesser(files.checkpoint, files.calibration))


@contextmanager
def model_files(reference: str | None) -> Iterator[ModelFiles]:
    """Give the files of a model, for as long as the block lasts.

    Args:
        reference: an exported file, a checkpoint, the folder of one, the name of a model in
            `trained/`, or what the registry knows: `champion`, `3`, `waymark-location@champion`,
            `waymark-location/3`. None takes the champion, or where there is none the best on val.

    Raises:
        ModelError: there is no such model.
    """
    with TemporaryDirectory(prefix="waymark-") as folder:
        if reference is None:
            yield _default(Path(folder))
        elif (path := Path(reference)).exists():
            yield _from_path(path, Path(folder))
        elif (TRAINED / reference / CHECKPOINT).exists():
            yield _trained(TRAINED / reference)
        elif is_reference(reference):
            yield _registered(reference, Path(folder))
        else:
            raise ModelError(f"{reference} does not exist; give a checkpoint, an exported file or an alias")


def _default(folder: Path) -> ModelFiles:
    """Take the registry's champion, else the best on val of the last comparison."""
    if registry_uri() is not None and _has_mlflow():
        from waymark.serving import download_registered  # late, for nobody else needs MLflow

        if (champion := download_registered(DEFAULT_ALIAS, folder, missing_ok=True)) is not None:
            return champion
    comparison = REPORTS / "compare.json"
    best = json.loads(comparison.read_text()).get("best_on_val") if comparison.exists() else None
    if best is None:
        raise ModelError("there is no model here; give one with --model, or make one with make run")
    return _trained(TRAINED / best)


def _from_path(path: Path, folder: Path) -> ModelFiles:
    if path.is_dir():
        return _trained(path)
    if is_exported(path):
        return unpack_exported(path, folder)
    return _trained(path.parent, path.name)


def _trained(folder: Path, checkpoint: str = CHECKPOINT) -> ModelFiles:
    """Take a checkpoint and the calibration beside it, in the same folder or in one named after it."""
    whole = folder.resolve()
    beside = [whole, whole.with_name(f"{whole.name}-calibration")]
    if not (whole / checkpoint).is_file():
        raise ModelError(f"{folder} holds no {checkpoint}; give the folder that a model was trained to")
    calibration = next((place for place in beside if (place / "calibration.json").exists()), None)
    if calibration is None:
        raise ModelError(f"{folder / checkpoint} has no calibration in {beside[1].name} beside it; run dvc repro")
    return ModelFiles(whole.name, whole / checkpoint, calibration, _metrics(whole))


def _metrics(folder: Path) -> dict[str, Any]:
    """Read the figures of a model in a checkout, where its report lies two folders up."""
    path = folder.parent.parent / REPORTS / "models" / folder.name / "metrics.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _registered(reference: str, folder: Path) -> ModelFiles:
    if not _has_mlflow():
        raise ModelError(
            f"{reference} is no file, and MLflow is not installed to look it up in a registry; give a checkpoint or an"
            " exported file, or pip install 'waymark[workflow]'"
        )
    if registry_uri() is None:
        raise ModelError(
            f"{reference} is no file, and there is no registry here; run from the root of a checkout, or set"
            " MLFLOW_TRACKING_URI"
        )
    from waymark.serving import download_registered  # late, for nobody else needs MLflow

    found = download_registered(reference, folder)
    assert found is not None
    return found


def _has_mlflow() -> bool:
    try:
        return find_spec("mlflow") is not None
    except ImportError:
        return False

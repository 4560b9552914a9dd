"""Find the models that somebody means: files, folders, or versions in the registry."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from waymark.errors import ModelError
from waymark.inference.bundle import ATTRIBUTION, Figures, ModelFiles, is_exported, unpack_exported
from waymark.inference.references import DEFAULT_ALIAS, LANDMARK, LOCATION, is_reference, registry_uri
from waymark.system.untrusted import read_document, regular_file

if TYPE_CHECKING:
    from waymark.inference.predictor import Predictor

TRAINED = Path("trained")
REPORTS = Path("reports")
CHECKPOINT = "model.ckpt"
BEST = {LOCATION: "best_on_val", LANDMARK: "best_landmark_on_val"}  # in the comparison, where there is no registry
NOTHING = "there is no model here; give one with --model, or make one with make run"


class Model(NamedTuple):
    """A model that is ready to answer."""

    name: str
    predictor: "Predictor"

    @property
    def places(self) -> bool:
        """Whether it says where a photo was taken."""
        return self.predictor.locator.place_head is not None

    @property
    def landmarks(self) -> bool:
        """Whether it says which landmark a photo shows."""
        return self.predictor.locator.landmark_head is not None


class Models(NamedTuple):
    """Who answers which question, None where nobody does; a joint model may answer both."""

    place: Model | None
    landmark: Model | None

    @property
    def each(self) -> list[Model]:
        """The models, each of them once."""
        both = [model for model in (self.place, self.landmark) if model is not None]
        return both[:1] if self.place is self.landmark else both

    @property
    def name(self) -> str:
        """What people call them."""
        return " and ".join(model.name for model in self.each)


def load_models(references: Sequence[str] = ()) -> Models:
    """Load the models that are to answer; see `model_files` for what a reference may be.

    Each question goes to the first model that can answer it. Without any reference the champions answer,
    `waymark-location` for places and `waymark-landmark` for landmarks, or where there is no champion the
    best on val; where only one of the two is there, only its question is answered.

    Raises:
        ModelError: there is no such model, or one that would answer nothing.
    """
    if not references:
        return _default_models()
    found = Models(None, None)
    for model in map(load_model, references):
        taken = found
        if found.place is None and model.places:
            found = found._replace(place=model)
        if found.landmark is None and model.landmarks:
            found = found._replace(landmark=model)
        if found == taken:
            raise ModelError(f"{model.name} adds nothing to {taken.name}; leave out one of them")
    return found


def load_model(reference: str | None) -> Model:
    """Load a model; see `model_files` for what a reference may be."""
    with model_files(reference) as files:
        return _load(files)


def _load(files: ModelFiles) -> Model:
    from waymark.inference.predictor import (
        load_predictor,
    )  # late, for torch takes seconds that finding a model does not

    return Model(files.name, load_predictor(files.checkpoint, files.calibration))


@contextmanager
def model_files(reference: str | None, prefer: str = LOCATION) -> Iterator[ModelFiles]:
    """Provide the files of a model, for as long as the block lasts.

    Args:
        reference: an exported file, a checkpoint, the folder of one, the name of a model in
            `trained/`, or what the registry knows: `champion`, `3`, `waymark-landmark@champion`,
            `waymark-location/3`. None takes the champion, or where there is none the best on val.
        prefer: name in the registry of the one that None takes, if there is any; else it takes another.

    Raises:
        ModelError: there is no such model.
    """
    with TemporaryDirectory(prefix="waymark-") as folder:
        if reference is None:
            names = sorted(BEST, key=lambda name: name != prefer)
            found = next(filter(None, (_default(name, Path(folder)) for name in names)), None)
            if found is None:
                raise ModelError(NOTHING)
            yield found
        elif (path := _located(reference)) is not None:
            yield _from_path(path, Path(folder))
        else:
            yield _registered(reference, Path(folder))


def check_reference(reference: str | None) -> None:
    """Check that a model can be found, as far as that needs neither its weights nor the registry.

    Raises:
        ModelError: there is no such model.
    """
    if reference is None:
        if (registry_uri() is None or not _has_mlflow()) and not (REPORTS / "compare.json").exists():
            raise ModelError(NOTHING)
    elif (path := _located(reference)) is None:
        _check_registry(reference)
    elif not (path.is_file() and is_exported(path)):
        _trained(path)


def _located(reference: str) -> Path | None:
    """Find the file or folder that is meant; None for what the registry knows.

    Raises:
        ModelError: it is neither.
    """
    if (path := Path(reference)).exists():
        return path
    if (TRAINED / reference / CHECKPOINT).exists():
        return TRAINED / reference
    if is_reference(reference):
        return None
    raise ModelError(f"{reference} does not exist; give a checkpoint, an exported file or an alias")


def _default_models() -> Models:
    with TemporaryDirectory(prefix="waymark-") as folder:
        files = {name: _default(name, Path(folder) / name) for name in BEST}
        contents = [(_digest(found), found) for found in files.values() if found is not None]
        loaded: dict[str, Model] = {}
        for digest, found in contents:
            if digest not in loaded:  # one model may have both names
                loaded[digest] = _load(found)
    if not loaded:
        raise ModelError(NOTHING)
    in_order = [loaded[digest] for digest, _ in contents]
    place = next((model for model in in_order if model.places), None)
    return Models(place, next((model for model in in_order[::-1] if model.landmarks), None))


def _digest(files: ModelFiles) -> str:
    """Compute the digest of what a model answers with, checkpoint and calibration, wherever these are."""
    whole = hashlib.sha256()
    for path in (files.checkpoint, *sorted(files.calibration.iterdir())):
        with path.open("rb") as file:
            whole.update(f"{path.name}\n".encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _default(name: str, folder: Path) -> ModelFiles | None:
    """Take the champion of the registry, else the best on val of the last comparison, if any."""
    if registry_uri() is not None and _has_mlflow():
        from waymark.inference.registry import download_registered  # late, for nobody else needs MLflow

        folder.mkdir(exist_ok=True)
        if (champion := download_registered(f"{name}@{DEFAULT_ALIAS}", folder, missing_ok=True)) is not None:
            return champion
    comparison = REPORTS / "compare.json"
    best = read_document(comparison, dict[str, Any]).get(BEST[name]) if comparison.exists() else None
    return None if best is None else trained_files(TRAINED / str(best))


def _from_path(path: Path, folder: Path) -> ModelFiles:
    return unpack_exported(path, folder) if path.is_file() and is_exported(path) else _trained(path)


def _trained(path: Path) -> ModelFiles:
    return trained_files(path) if path.is_dir() else trained_files(path.parent, path.name)


def trained_files(folder: Path, checkpoint: str = CHECKPOINT) -> ModelFiles:
    """Take a checkpoint and the calibration next to it, in the same folder or in one named after it.

    Raises:
        ModelError: one of them is missing.
    """
    whole = folder.resolve()
    places = [whole, whole.with_name(f"{whole.name}-calibration")]
    if not (whole / checkpoint).exists():
        raise ModelError(f"{folder} holds no {checkpoint}; give the folder that a model was trained to")
    regular_file(whole / checkpoint)
    calibration = next((place for place in places if (place / "calibration.json").exists()), None)
    if calibration is None:
        raise ModelError(f"{folder / checkpoint} has no calibration in {places[1].name} next to it; run dvc repro")
    attribution = whole / ATTRIBUTION if (whole / ATTRIBUTION).exists() else None
    return ModelFiles(whole.name, whole / checkpoint, calibration, _metrics(whole), attribution)


def _metrics(folder: Path) -> dict[str, Any]:
    """Read the figures of a model in a checkout, where its report lies two folders up."""
    path = folder.parent.parent / REPORTS / "models" / folder.name / "metrics.json"
    return dict(read_document(path, Figures)) if path.exists() else {}


def _registered(reference: str, folder: Path) -> ModelFiles:
    _check_registry(reference)
    from waymark.inference.registry import download_registered  # late, for nobody else needs MLflow

    found = download_registered(reference, folder)
    assert found is not None
    return found


def _check_registry(reference: str) -> None:
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


def _has_mlflow() -> bool:
    try:
        return find_spec("mlflow") is not None
    except ImportError:
        return False

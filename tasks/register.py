"""Register the location model that is best on val. No stage: it changes the world."""

import base64
import logging
from pathlib import Path
from typing import NamedTuple

import mlflow
import pandas as pd

from tasks import tracking
from tasks.outputs import file_digest, read_json
from waymark.errors import ModelError
from waymark.serving import log_location_model

logger = logging.getLogger(__name__)

LOCATION = "waymark-location"
TRAINED = Path("trained")
REPORTS = Path("reports")


class Registered(NamedTuple):
    """A version in the registry."""

    model: str
    version: str
    is_champion: bool


def register_best() -> Registered:
    """Register the location model with the smallest val mean error, as challenger.

    It becomes champion only where there is none. A model that is registered already keeps its version.

    Raises:
        ModelError: no model has a figure on val.
    """
    best = read_json(REPORTS / "compare.json")["best_on_val"]
    if best is None:
        raise ModelError("no model has a mean error on val, so there is nothing to register")
    store = tracking.client()
    version = _registered_version(best) or _register(best)
    store.set_registered_model_alias(LOCATION, "challenger", version)
    aliases = store.get_registered_model(LOCATION).aliases
    if "champion" not in aliases:
        store.set_registered_model_alias(LOCATION, "champion", version)
        aliases["champion"] = version
    logger.info("%s is version %s of %s", best, version, LOCATION)
    return Registered(best, version, str(aliases["champion"]) == version)


def _registered_version(model: str) -> str | None:
    digest = file_digest(TRAINED / model / "model.ckpt")
    found = tracking.client().search_model_versions(f"name = '{LOCATION}'")
    return next(
        (str(version.version) for version in found if version.tags.get(tracking.CHECKPOINT_TAG) == digest), None
    )


def _register(model: str) -> str:
    store, run_id = tracking.client(), tracking.run_of(model)
    tracking.experiment_id()
    with mlflow.start_run(run_id=run_id):
        info = log_location_model(
            TRAINED / model / "model.ckpt", TRAINED / f"{model}-calibration", _example(model), LOCATION
        )
    version = str(info.registered_model_version)
    for name, value in store.get_run(run_id).data.tags.items():
        if name.startswith("waymark."):
            store.set_model_version_tag(LOCATION, version, name, value)
    return version


def _example(model: str) -> pd.DataFrame:
    """Take the pictures of a guess in the report as the example of an input."""
    shown = read_json(REPORTS / "models" / model / "gallery.json")["best"][0]["pictures"]
    row = {"views": [base64.b64decode(picture["jpeg"]) for picture in shown]}
    if all(picture["heading_deg"] is not None for picture in shown):
        row["headings_deg"] = [float(picture["heading_deg"]) for picture in shown]
    return pd.DataFrame([row])

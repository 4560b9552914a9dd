"""Register the location model that is best on val. No stage: it changes the world."""

import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pandas as pd

from tasks import tracking
from tasks.examples import headings, open_shards, read_table
from tasks.outputs import file_digest, read_json
from waymark.errors import ModelError
from waymark.images.decode import jpeg_bytes
from waymark.registry import DEFAULT_ALIAS, LOCATION
from waymark.serving import log_location_model

logger = logging.getLogger(__name__)

CONTENT_TAG = "waymark.content.sha256"
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
    comparison = read_json(REPORTS / "compare.json")
    best = comparison["best_on_val"]
    if best is None:
        raise ModelError("no model has a mean error on val, so there is nothing to register")
    runs = {model: tracking.run_of(model) for model in comparison["models"]}  # logs anew what this store lacks
    store = tracking.client()
    version = _registered_version(best) or _register(best, runs[best])
    store.set_registered_model_alias(LOCATION, "challenger", version)
    aliases = store.get_registered_model(LOCATION).aliases
    if DEFAULT_ALIAS not in aliases:
        store.set_registered_model_alias(LOCATION, DEFAULT_ALIAS, version)
        aliases[DEFAULT_ALIAS] = version
    logger.info("%s is version %s of %s", best, version, LOCATION)
    return Registered(best, version, str(aliases[DEFAULT_ALIAS]) == version)


def _registered_version(model: str) -> str | None:
    digest = _digest(model)
    found = tracking.client().search_model_versions(f"name = '{LOCATION}'")
    return next((str(version.version) for version in found if version.tags.get(CONTENT_TAG) == digest), None)


def _digest(model: str) -> str:
    """Hash what a version consists of: the checkpoint and its calibration."""
    calibration = TRAINED / f"{model}-calibration"
    files = [TRAINED / model / "model.ckpt", *sorted(calibration.iterdir())]
    return hashlib.sha256("".join(map(file_digest, files)).encode()).hexdigest()


def _register(model: str, run_id: str) -> str:
    store = tracking.client()
    with mlflow.start_run(run_id=run_id):
        info = log_location_model(
            TRAINED / model / "model.ckpt", TRAINED / f"{model}-calibration", _example(), LOCATION
        )
    version = str(info.registered_model_version)
    tags = {CONTENT_TAG: _digest(model), **store.get_run(run_id).data.tags}
    for name, value in tags.items():
        if name.startswith("waymark."):
            store.set_model_version_tag(LOCATION, version, name, value)
    return version


def _example() -> pd.DataFrame:
    """Take the pictures of the first val record as the example of an input."""
    table, shards = read_table(), open_shards()
    record = table[table["split"] == "val"].iloc[0]
    angles = headings(record["views"])
    seen = [view for view in range(len(angles)) if (record["record_id"], view) in shards]
    row: dict[str, Any] = {"views": [jpeg_bytes(shards[record["record_id"], view]) for view in seen]}
    if all(angle is not None for angle in angles):
        row["headings_deg"] = [angles[view] for view in seen]
    return pd.DataFrame([row])

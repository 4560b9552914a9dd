"""Register the models that are best on val, for places and for landmarks. No stage: it changes the world."""

import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pandas as pd

from tasks.common.outputs import file_digest, read_json
from tasks.registry import runs, versions
from tasks.registry.store import client
from tasks.training.tables import headings, open_shards, read_table
from waymark.errors import ModelError
from waymark.images.decode import jpeg_bytes
from waymark.inference.bundle import ModelFiles
from waymark.inference.lookup import BEST, trained_files
from waymark.inference.references import LANDMARK, LOCATION

logger = logging.getLogger(__name__)

CONTENT_TAG = "waymark.content.sha256"
SHOWN = tuple(
    f"{runs.PREFIX}{name}"
    for name in ("model", "git.revision", "git.dirty", "data.digest", "split.test_sha256", "params.sha256")
)  # as tags of a version, by which people compare it with others; the rest stands in its run's lineage.json
DESCRIPTIONS = {LOCATION: "Where a photo was taken.", LANDMARK: "Which landmark a photo shows."}
ROLES = (
    "`champion` is in use; `challenger` is the best on val of the last run and waits for `python -m flows.promote`."
    " Each version's description says what became of it; its run has figures, curves, lineage.json and the evidence."
)
TRAINED, COMPARISON = Path("trained"), Path("reports/compare.json")


class Registered(NamedTuple):
    """A version in the registry."""

    name: str  # in the registry
    model: str
    version: str
    is_champion: bool


def register_best() -> list[Registered]:
    """Register the best models on val, for places by mean error and for landmarks by GAP, as challengers.

    Each becomes champion only where there is none. A model that is registered already keeps its version, and
    one that is best at both is registered under both names.

    Raises:
        ModelError: no model has a figure on val.
    """
    comparison = read_json(COMPARISON)
    best = {name: comparison.get(key) for name, key in BEST.items()}
    if not any(best.values()):
        raise ModelError("no model has a mean error or a GAP on val, so there is nothing to register")
    run_ids = {model: runs.run_of(model) for model in comparison["models"]}  # which logs what this store lacks
    return [_register(name, model, run_ids[model]) for name, model in best.items() if model is not None]


def _register(name: str, model: str, run_id: str) -> Registered:
    files, store = trained_files(TRAINED / model), client()
    digest = _digest(files)
    version = _registered_version(name, digest) or _new_version(name, files, run_id, digest)
    store.set_registered_model_alias(name, "challenger", version)
    if not store.get_registered_model(name).description:
        store.update_registered_model(name, f"{DESCRIPTIONS[name]} {ROLES}")
    champion = versions.champion_of(name)
    if champion is None:
        reason = f"the first of {name}: there was none to compare it with"
        champion = versions.make_champion(name, version, None, reason).after
    logger.info("%s is version %s of %s", model, version, name)
    return Registered(name, model, version, champion == version)


def _registered_version(name: str, digest: str) -> str | None:
    found = client().search_model_versions(f"name = '{name}'")
    return next((str(version.version) for version in found if version.tags.get(CONTENT_TAG) == digest), None)


def _digest(files: ModelFiles) -> str:
    """Hash what a version consists of: the checkpoint, its calibration, and the attribution if there is one."""
    attribution = [] if files.attribution is None else [files.attribution]
    parts = [files.checkpoint, *sorted(files.calibration.iterdir()), *attribution]
    return hashlib.sha256("".join(map(file_digest, parts)).encode()).hexdigest()


def _new_version(name: str, files: ModelFiles, run_id: str, digest: str) -> str:
    from waymark.inference.mlflow_model import log_registered_model  # late, for torch takes seconds

    with mlflow.start_run(run_id=run_id):
        info = log_registered_model(files, _example(), name)
    version, lineage = str(info.registered_model_version), runs.write_lineage(run_id)
    tags = {tag: lineage[tag] for tag in SHOWN if tag in lineage}
    versions.tag(name, version, {**tags, CONTENT_TAG: digest})  # the digest last, as it says that nothing lacks
    return version


def _example() -> pd.DataFrame:
    """Take the pictures of the first val record that has any as the example of an input.

    Raises:
        ModelError: no val record has a picture.
    """
    table, shards = read_table(), open_shards()
    val = table[table["split"] == "val"]
    for record_id, views in zip(val["record_id"], val["views"], strict=True):
        angles = headings(views)
        seen = [view for view in range(len(angles)) if (record_id, view) in shards]
        if seen:
            row: dict[str, Any] = {"views": [jpeg_bytes(shards[record_id, view]) for view in seen]}
            if all(angle is not None for angle in angles):
                row["headings_deg"] = [angles[view] for view in seen]
            return pd.DataFrame([row])
    raise ModelError("no val record has a picture that can be decoded; see data/shards/quarantine.parquet")

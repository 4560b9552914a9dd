"""Where a registered model comes from, as its tags and its run say, and whether what was made again is the same."""

from pathlib import Path
from typing import NamedTuple

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML

from tasks.common.outputs import file_digest, read_json
from tasks.registry import tracking
from waymark.errors import ModelError
from waymark.inference.references import parse_reference

DIRTY = "waymark.git.dirty"
DATA, MD5 = "waymark.data.", ".md5"
SPLITS = ("val", "test")
NO_WORD = "–"


class Origin(NamedTuple):
    """What the registry says of a version."""

    name: str  # in words
    model: str  # its entry in params.yaml
    revision: str
    tags: dict[str, str]
    metrics: dict[str, float]  # such as test.mean_km

    @property
    def stages(self) -> dict[str, str]:
        """Give the md5 of each data stage."""
        tags = {tag: md5 for tag, md5 in self.tags.items() if tag.startswith(DATA) and tag.endswith(MD5)}
        return {tag.removeprefix(DATA).removesuffix(MD5): md5 for tag, md5 in sorted(tags.items())}


class Row(NamedTuple):
    """One thing, as it was and as it is."""

    what: str
    registered: str
    rebuilt: str

    @property
    def equal(self) -> bool:
        """Whether they are the same."""
        return self.registered == self.rebuilt


def read_origin(reference: str) -> Origin:
    """Look up where a registered model comes from.

    Args:
        reference: `3`, `champion`, `waymark-landmark/2`, `waymark-landmark@champion`.

    Raises:
        ModelError: there is no such version, or nothing says what it could be made from.
    """
    try:
        wanted = parse_reference(reference)
    except ValueError as error:
        raise ModelError(str(error)) from None
    store = tracking.client()
    try:
        if wanted.alias is not None:
            found = store.get_model_version_by_alias(wanted.model, wanted.alias)
        else:
            found = store.get_model_version(wanted.model, str(wanted.version))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the latter for an alias
            raise
        raise ModelError(f"the registry at hand has no {reference}; see its versions with mlflow ui") from None
    return _origin(found, store.get_run(found.run_id).data.metrics)


def _origin(found: ModelVersion, metrics: dict[str, float]) -> Origin:
    name, tags = f"{found.name} version {found.version}", tracking.lineage_of(found)
    needed = (tracking.REVISION_TAG, DIRTY, tracking.MODEL_TAG, tracking.CHECKPOINT_TAG)
    if missing := [tag for tag in needed if tag not in tags]:
        raise ModelError(f"{name} has no tag {missing[0]}: it is older than the lineage; train and register it again")
    revision = tags[tracking.REVISION_TAG]
    if tags[DIRTY] != "false":
        raise ModelError(
            f"{name} was made with changes that are in no commit (beside {revision[:12]}), so that nobody can"
            " make it again; commit first, or let the nightly flow train it"
        )
    figures = {key: value for key, value in metrics.items() if key.split(".")[0] in SPLITS}
    return Origin(name, tags[tracking.MODEL_TAG], revision, tags, figures)


def compare(origin: Origin, folder: Path) -> dict[str, list[Row]]:
    """Compare what was registered with what came out in another checkout.

    Returns:
        Rows for `data`, `checkpoint` and `metrics`.
    """
    training = read_json(folder / "trained" / origin.model / "training.json")
    locked = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
    outs = {name.replace("@", "."): stage["outs"][0]["md5"] for name, stage in locked.items() if stage.get("outs")}
    data = [Row(stage, md5, outs.get(stage, NO_WORD)) for stage, md5 in origin.stages.items()]
    tested = origin.tags.get("waymark.split.test_sha256", NO_WORD)
    data.append(Row("ids of test", tested, training.get("lineage", {}).get("test_sha256", NO_WORD)))
    checkpoint = file_digest(folder / "trained" / origin.model / "model.ckpt")
    return {
        "data": data,
        "checkpoint": [Row("model.ckpt", origin.tags[tracking.CHECKPOINT_TAG], checkpoint)],
        "metrics": _figures(origin, read_json(folder / "reports" / "models" / origin.model / "metrics.json")),
    }


def _figures(origin: Origin, document: dict[str, dict[str, float | None]]) -> list[Row]:
    rebuilt = {
        f"{split}.{name}": float(value)
        for split, figures in document.items()
        for name, value in figures.items()
        if value is not None
    }
    return [
        Row(name, *(repr(its[name]) if name in its else NO_WORD for its in (origin.metrics, rebuilt)))
        for name in sorted({*origin.metrics, *rebuilt})
    ]

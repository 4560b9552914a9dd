"""Where a registered model comes from, as its tags and its run say, and whether what was made again is the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from tasks.common.outputs import file_digest, read_json
from tasks.registry import runs
from tasks.registry.store import client
from waymark.errors import ModelError
from waymark.inference.references import parse_reference
from waymark.inference.registry import figures_of, get_version

DIRTY = "waymark.git.dirty"
DATA, MD5 = "waymark.data.", ".md5"
UNKNOWN = "–"


class Origin(NamedTuple):
    """What the registry says of a version."""

    name: str  # in words
    model: str  # its entry in params.yaml
    revision: str
    tags: dict[str, str]
    metrics: dict[str, float]  # such as test.mean_km

    @property
    def stages(self) -> dict[str, str]:
        """The md5 of each data stage."""
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
    found = get_version(client(), wanted)
    name, tags = f"{found.name} version {found.version}", runs.read_lineage(found)
    needed = (runs.REVISION_TAG, DIRTY, runs.MODEL_TAG, runs.CHECKPOINT_TAG)
    if missing := [tag for tag in needed if tag not in tags]:
        raise ModelError(f"{name} has no tag {missing[0]}: it is older than the lineage; train and register it again")
    revision = tags[runs.REVISION_TAG]
    if tags[DIRTY] != "false":
        raise ModelError(
            f"{name} was made with changes that are in no commit (on top of {revision[:12]}), so that nobody can"
            " make it again; commit first, or let the nightly flow train it"
        )
    return Origin(name, tags[runs.MODEL_TAG], revision, tags, _flat(figures_of(client(), found)))


def compare(origin: Origin, folder: Path) -> dict[str, list[Row]]:
    """Compare what was registered with what came out in another checkout.

    Returns:
        Rows for `data`, `checkpoint` and `metrics`.
    """
    training = read_json(folder / "trained" / origin.model / "training.json")
    locked = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
    outs = {name.replace("@", "."): stage["outs"][0]["md5"] for name, stage in locked.items() if stage.get("outs")}
    data = [Row(stage, md5, outs.get(stage, UNKNOWN)) for stage, md5 in origin.stages.items()]
    tested = origin.tags.get("waymark.split.test_sha256", UNKNOWN)
    data.append(Row("ids of test", tested, training.get("lineage", {}).get("test_sha256", UNKNOWN)))
    checkpoint = file_digest(folder / "trained" / origin.model / "model.ckpt")
    return {
        "data": data,
        "checkpoint": [Row("model.ckpt", origin.tags[runs.CHECKPOINT_TAG], checkpoint)],
        "metrics": _figures(origin, read_json(folder / "reports" / "models" / origin.model / "metrics.json")),
    }


def _figures(origin: Origin, document: dict[str, dict[str, float | None]]) -> list[Row]:
    rebuilt = _flat(document)
    return [
        Row(name, *(repr(figures[name]) if name in figures else UNKNOWN for figures in (origin.metrics, rebuilt)))
        for name in sorted({*origin.metrics, *rebuilt})
    ]


def _flat(document: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """Name figures by their split, such as test.mean_km."""
    figures = ((f"{split}.{name}", value) for split, part in document.items() for name, value in part.items())
    return {name: float(value) for name, value in figures if value is not None}

"""Check all of params.yaml before any stage runs, including what no single stage sees."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tasks.common.kinds import check_name
from tasks.common.params import load_params
from tasks.common.stage import Stage
from waymark.errors import ModelError, ParameterError, nearest_name
from waymark.images.shards import check_size

LISTS = ("models", "embeddings", "grids", "block_split", "ensembles")  # sections whose keys are names of the user's own
GRIDS = "data/grids/"
NO_EMBEDDINGS = "none"


def check_params() -> None:
    """Refuse parameters that a stage would refuse, before DVC removes that stage's outputs.

    Raises:
        WaymarkError: the first wrong key, or weights that are not available.
    """
    document = load_params()
    check_document(document)
    for section in ("models", "embeddings"):
        for name, entry in document[section].items():
            if entry.get("weights", "none") == "none":
                continue
            from waymark.models.weights import check_weights  # here, because torch takes seconds

            try:
                check_weights(entry["backbone"], entry["weights"])
            except ModelError as error:
                raise ModelError(f"params.yaml: {section}.{name}: {error}") from error


def check_document(document: dict[str, Any]) -> None:
    """Refuse parameters that a stage would refuse, or that do not fit together.

    Raises:
        WaymarkError: the first wrong key.
    """
    for section in LISTS:
        _entries(document, section)
    if not document["models"]:
        raise ParameterError("params.yaml: models must have at least one model")
    known: set[str] = set()
    for stage in stages():
        known.update(key.split(".")[0] for key in stage.params("entry"))
        for entry in _entries(document, stage.each):
            stage.read(document, entry)
    if unknown := sorted(set(map(str, document)) - known):
        raise ParameterError(f"params.yaml: unknown section {unknown[0]}; {nearest_name(unknown[0], known)}")
    size_px = document["resize"]["size_px"]
    for section in ("models", "embeddings"):
        for name, entry in document[section].items():
            try:
                check_size(size_px, entry.get("size_px") or size_px)
            except ModelError as error:
                raise ParameterError(f"params.yaml: {section}.{name}: {error}") from error
    if NO_EMBEDDINGS in document["embeddings"]:
        raise ParameterError("params.yaml: embeddings.none is what models say that learn from pictures; rename it")
    for name, entry in document["models"].items():
        _check_model(name, entry, document)


def stages() -> Iterator[Stage[Any]]:
    """Import all stages."""
    for module in sorted(Path(__file__).parent.parent.glob("*.py")):
        stage = getattr(import_module(f"tasks.{module.stem}"), "STAGE", None)
        if stage is not None:
            yield stage


def _check_model(name: str, entry: dict[str, Any], document: dict[str, Any]) -> None:
    """Check a model against the sections from which its data come."""
    grid = entry["target"].removeprefix(GRIDS)
    if entry["target"].startswith(GRIDS) and grid not in document["grids"]:
        hint = nearest_name(grid, document["grids"])
        raise ParameterError(f"params.yaml: models.{name}.target {entry['target']} is not an entry of grids; {hint}")
    learns_from = entry.get("embeddings", NO_EMBEDDINGS)
    if learns_from != NO_EMBEDDINGS and learns_from not in document["embeddings"]:
        hint = nearest_name(learns_from, document["embeddings"])
        raise ParameterError(
            f"params.yaml: models.{name}.embeddings {learns_from} is not an entry of embeddings; {hint}"
        )


def _entries(document: dict[str, Any], section: str | None) -> list[Any]:
    """List the entries of a section, for each of which a stage runs; without a section one None."""
    if section is None:
        return [None]
    entries = document.get(section)
    if not isinstance(entries, dict):
        raise ParameterError(
            f"params.yaml: {section} must be a section with names; leave it empty with {section}: {{}}"
        )
    for name in entries:
        check_name(section, name)
    return list(entries)

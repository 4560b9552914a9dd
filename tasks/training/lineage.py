"""What a training reads, by its hashes: the same for the same inputs, so that it may stand in `training.json`."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.common.outputs import file_digest
from tasks.training.tables import EMBEDDINGS, RECORDS, SHARDS, SPLIT

REQUIREMENTS = Path("requirements.lock")


def lineage(params: dict[str, Any]) -> dict[str, Any]:
    """Hash what a training reads.

    Args:
        params: of its entry, with the region, as the training takes them.
    """
    embedded = [] if params["embeddings"] == "none" else [EMBEDDINGS / params["embeddings"]]
    data = {str(path): dvc_md5(path) for path in (RECORDS, SHARDS, SPLIT, Path(params["target"]), *embedded)}
    inputs: dict[str, Any] = {
        "data": data,
        "data_digest": hashlib.md5(json.dumps(data, sort_keys=True).encode()).hexdigest(),
        "test_sha256": test_digest(SPLIT / "records.parquet"),
        "params_sha256": hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest(),
    }
    for name, path in (("requirements_sha256", REQUIREMENTS), ("weights_sha256", Path(params["weights"]))):
        if path.is_file():
            inputs[name] = file_digest(path)
    return inputs


def dvc_md5(path: Path) -> str:
    """Hash a file or a folder as DVC does: a folder is the list of its files and their hashes."""
    if path.is_file():
        return _file_md5(path)
    files = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
    listed = [{"md5": _file_md5(files[name]), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(listed).encode()).hexdigest() + ".dir"


def _file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def test_digest(split: Path) -> str:
    """Hash the ids of the test records of a split."""
    table = pd.read_parquet(split, columns=["record_id", "split"])
    test = sorted(table.loc[table["split"] == "test", "record_id"])
    return hashlib.sha256("\n".join(test).encode()).hexdigest()


test_digest.__test__ = False  # type: ignore[attr-defined]  # of pytest, which takes the name for one of its own

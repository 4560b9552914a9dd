"""What a model was made from: code, data, parameters, machine."""

import hashlib
import json
import logging
import os
import platform
import re
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.common.outputs import file_digest
from tasks.training.tables import RECORDS, SHARDS, SPLIT
from waymark.system.processes import run_command

logger = logging.getLogger(__name__)

LOCK = Path("dvc.lock")
REQUIREMENTS = Path("requirements.lock")
FLOW_RUN_VARIABLE = "WAYMARK_FLOW_RUN_ID"
CODE = ("tasks", "waymark")  # where a file that git does not know counts, as it may have been imported
LOCK_TRIES, LOCK_PAUSE_S = 40, 0.25  # DVC writes its lock file in place, which takes a second where it is large
PREFIX = "waymark."


class Lineage(NamedTuple):
    """What a model was made from.

    Attributes:
        inputs: what the training read: the same for the same inputs, so that it may stand in `training.json`.
        circumstances: where and when it ran: for the tags of its run alone.
    """

    inputs: dict[str, Any]
    circumstances: dict[str, str]

    def tags(self) -> dict[str, str]:
        """Give all of it as tags of a run or of a version."""
        names = {
            "data_digest": "data.digest",
            "test_sha256": "split.test_sha256",
            "params_sha256": "params.sha256",
            "requirements_sha256": "requirements.lock.sha256",
            "weights_sha256": "weights.sha256",
        }
        return {**self.circumstances, **_named({tag: self.inputs.get(name, "") for name, tag in names.items()})}


def lineage(params: dict[str, Any], inputs: dict[str, Any] | None = None) -> Lineage:
    """Gather what a model is made from, as its training begins.

    Args:
        params: of its entry, with the region, as the training takes them.
        inputs: what the training read, where `training.json` says so; else it is looked up here.
    """
    inputs = _inputs(params) if inputs is None else inputs
    return Lineage(inputs, {**_named(_circumstances()), **lock_tags(), **stage_tags(inputs["data"])})


def _inputs(params: dict[str, Any]) -> dict[str, Any]:
    data = {str(path): dvc_md5(path) for path in (RECORDS, SHARDS, SPLIT, Path(params["target"]))}
    inputs: dict[str, Any] = {
        "data": data,
        "data_digest": hashlib.md5(json.dumps(data, sort_keys=True).encode()).hexdigest(),
        "test_sha256": _test_digest(),
        "params_sha256": hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest(),
    }
    for name, path in (("requirements_sha256", REQUIREMENTS), ("weights_sha256", Path(params["weights"]))):
        if path.is_file():
            inputs[name] = file_digest(path)
    return inputs


def lock_tags() -> dict[str, str]:
    """Give the digest of dvc.lock as it stands; it changes with each stage."""
    return _named({"dvc.lock.sha256": file_digest(LOCK) if LOCK.exists() else ""})


def _circumstances() -> dict[str, str]:
    return {
        **git_state(),
        "hardware": hardware(),
        "torch": version("torch"),
        "flow_run": os.environ.get(FLOW_RUN_VARIABLE, ""),
        "experiment": os.environ.get("DVC_EXP_NAME", ""),
    }


def _named(values: dict[str, str]) -> dict[str, str]:
    return {f"{PREFIX}{name}": value for name, value in values.items() if value}


def git_state() -> dict[str, str]:
    """Say which revision the code is at, and whether it is that revision.

    dvc.lock does not count, as DVC writes it while stages run; a module that git does not know does.
    """
    revision = _git("rev-parse", "HEAD")
    tracked = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){LOCK}")
    unknown = _git("ls-files", "--others", "--exclude-standard", "--", *CODE)
    if revision is None or tracked is None or unknown is None:
        return {}
    return {"git.revision": revision, "git.dirty": str(bool(tracked or unknown)).lower()}


def _git(*arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", *arguments]
    result = run_command(command, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


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


def _test_digest() -> str:
    split = pd.read_parquet(SPLIT / "records.parquet")
    test = sorted(split.loc[split["split"] == "test", "record_id"])
    return hashlib.sha256("\n".join(test).encode()).hexdigest()


def hardware() -> str:
    """Name what trains here: the GPU, else the CPU."""
    import torch  # late, for most who ask for a lineage train nothing

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{device}, {_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()


def stage_tags(paths: Iterable[str]) -> dict[str, str]:
    """Give the md5 of each stage that leads to some files, as dvc.lock has it; none without dvc.lock."""
    if not LOCK.exists():
        return {}
    paths = list(paths)
    for _ in range(LOCK_TRIES):
        try:
            found = _stages_behind(paths, (YAML(typ="safe").load(LOCK) or {}).get("stages", {}))
        except YAMLError:
            found = None
        if found is not None:
            return _named({f"data.{name.replace('@', '.')}.md5": md5 for name, md5 in found.items()})
        time.sleep(LOCK_PAUSE_S)  # a stage beside this one is writing it
    logger.warning("%s does not say where %s come from; run dvc repro", LOCK, ", ".join(paths))
    return {}


def _stages_behind(paths: list[str], stages: dict[str, Any]) -> dict[str, str] | None:
    """Follow files to the stages that made them, and these to theirs; None where the lock file is not whole."""
    outs = {out["path"]: (name, out) for name, stage in stages.items() for out in stage.get("outs") or ()}
    found: dict[str, str] = {}
    queue = list(paths)
    while queue:
        path = Path(queue.pop())
        name, out = next((outs[str(place)] for place in (path, *path.parents) if str(place) in outs), (None, {}))
        if name is None and path.parts[0] == "data":
            return None
        if name is not None and name not in found:
            if "md5" not in out or "size" not in out:  # DVC writes the size behind the md5
                return None
            found[name] = out["md5"]
            queue.extend(dependency["path"] for dependency in stages[name].get("deps") or ())
    return found

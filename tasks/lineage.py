"""What a model was made from: code, data, parameters, machine."""

import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.outputs import file_digest
from tasks.stage import load_params

LOCK = Path("dvc.lock")
REQUIREMENTS = Path("requirements.lock")
FLOW_RUN_VARIABLE = "WAYMARK_FLOW_RUN_ID"


def lineage(model: str) -> dict[str, str]:
    """Gather what the model was made from, as tags of its run."""
    gathered = {
        "git.revision": _git("rev-parse", "HEAD"),
        "git.dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
        "params.sha256": _params_digest(model),
        "split.test_sha256": _test_digest(),
        "hardware": _hardware(),
        "flow_run": os.environ.get(FLOW_RUN_VARIABLE, ""),
        "experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    for name, path in (("dvc.lock.sha256", LOCK), ("requirements.lock.sha256", REQUIREMENTS)):
        gathered[name] = file_digest(path) if path.exists() else ""
    return {f"waymark.{name}": value for name, value in {**gathered, **_stage_digests()}.items() if value}


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def _params_digest(model: str) -> str:
    params: dict[str, Any] = load_params()
    params["models"] = {model: params["models"][model]}
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def _test_digest() -> str:
    split = pd.read_parquet("data/split/records.parquet")
    test = sorted(split.loc[split["split"] == "test", "record_id"])
    return hashlib.sha256("\n".join(test).encode()).hexdigest()


def _hardware() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{device}, {platform.machine()}, {os.cpu_count()} cores"


def _stage_digests() -> dict[str, str]:
    """Give the md5 of each output of a stage that belongs to no model, as dvc.lock has it."""
    if not LOCK.exists():
        return {}
    try:
        stages = (YAML(typ="safe").load(LOCK) or {}).get("stages", {})
    except YAMLError:  # a stage beside this one is writing it
        return {}
    return {
        f"data.{name.replace('@', '.')}.md5": out["md5"]
        for name, stage in stages.items()
        if "@" not in name or name.startswith("grids@")
        for out in stage.get("outs", [])
    }

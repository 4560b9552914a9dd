"""Where and when a training runs: revision, machine, flow run, and the stages of dvc.lock that made its data.

None of it changes what the training makes; it goes into the tags of its run in MLflow.
"""

import logging
import os
import platform
import re
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.common.outputs import file_digest
from waymark.system.processes import run_command

logger = logging.getLogger(__name__)

LOCK = Path("dvc.lock")
FLOW_RUN_VARIABLE = "WAYMARK_FLOW_RUN_ID"
CODE = ("tasks", "waymark")  # where a file that git does not know counts, as it may have been imported
LOCK_TRIES, LOCK_PAUSE_S = 40, 0.25  # DVC writes its lock file in place, which takes a second where it is large


def circumstances(paths: Iterable[str]) -> dict[str, str]:
    """Describe this machine, this revision and where the data come from.

    Args:
        paths: that the training reads, as dvc.yaml has them.
    """
    found = {
        **of_checkout(paths),
        "hardware": hardware(),
        "torch": version("torch"),
        "flow_run": os.environ.get(FLOW_RUN_VARIABLE, ""),
        "experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    return {name: value for name, value in found.items() if value}


def of_checkout(paths: Iterable[str]) -> dict[str, str]:
    """Describe revision and data alone, which is what another machine can know of a training."""
    return {**git_state(), **lock_state(), **stages_behind(paths)}


def lock_state() -> dict[str, str]:
    """Hash dvc.lock as it stands; it changes with each stage."""
    return {"dvc.lock.sha256": file_digest(LOCK)} if LOCK.exists() else {}


def git_state() -> dict[str, str]:
    """Find out which revision the code is at, and whether it is that revision.

    dvc.lock does not count, as DVC writes it while stages run; a module that git does not know does.
    """
    revision = _git("rev-parse", "HEAD")
    tracked = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){LOCK}")
    unknown = _git("ls-files", "--others", "--exclude-standard", "--", *CODE)
    if revision is None or tracked is None or unknown is None:
        return {}
    return {"git.revision": revision, "git.dirty": str(bool(tracked or unknown)).lower()}


def _git(*arguments: str) -> str | None:
    result = run_command(["git", "--no-optional-locks", *arguments], capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def hardware() -> str:
    """Name what trains here: the GPU, else the CPU."""
    import torch  # late, for most who import this train nothing

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{device}, {_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()


def stages_behind(paths: Iterable[str]) -> dict[str, str]:
    """Look up the md5 of each stage that leads to some files, as dvc.lock has it; none without dvc.lock."""
    if not LOCK.exists():
        return {}
    paths = list(paths)
    for _ in range(LOCK_TRIES):
        try:
            found = _followed(paths, (YAML(typ="safe").load(LOCK) or {}).get("stages", {}))
        except YAMLError:
            found = None
        if found is not None:
            return {f"data.{name.replace('@', '.')}.md5": md5 for name, md5 in found.items()}
        time.sleep(LOCK_PAUSE_S)  # another stage is writing it
    logger.warning("%s does not say where %s come from; run dvc repro", LOCK, ", ".join(paths))
    return {}


def _followed(paths: list[str], stages: dict[str, Any]) -> dict[str, str] | None:
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

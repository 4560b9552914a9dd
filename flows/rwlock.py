"""DVC's list of the paths that stages at work read and write, mended after a kill."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE

from flows.processes import is_alive
from tasks.common.outputs import whole_file


def forget_the_dead(repo: Repo) -> None:
    """Take processes that are gone off the list; call with the lock of the repository held, as nobody writes it then.

    DVC itself refuses a list that a killed process left half written, for good, and takes a process that nobody has
    buried yet for one at work.
    """
    path = Path(repo.tmp_dir or "") / RWLOCK_FILE
    with suppress(FileNotFoundError):
        listed = _read(path)
        kept = {
            "write": {place: holder for place, holder in listed.get("write", {}).items() if is_alive(holder["pid"])},
            "read": {
                place: living
                for place, holders in listed.get("read", {}).items()
                if (living := [holder for holder in holders if is_alive(holder["pid"])])
            },
        }
        if kept != listed:
            with whole_file(path) as beside:
                beside.write_text(json.dumps(kept))


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except json.JSONDecodeError:
        return {}

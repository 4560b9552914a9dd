"""Memory that is available to this process, and limits on it."""

import resource
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def available_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Return the memory available without swapping: of the machine, or the rest of the limit of a container or job.

    Args:
        proc: mount point of proc.
        cgroups: mount point of control groups, version 1 or 2.
    """
    machine = _fields(proc / "meminfo")["MemAvailable:"] * 1024
    return max(0, min([machine, *_left_in_groups(proc, cgroups)]))


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield what each control group of this process may still use; cached files do not count."""
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            root, most, used, cached = cgroups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, most, used = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        inner = root / name.lstrip("/")  # in a container possibly only `root` is visible
        for group in [inner, *inner.parents][: len(inner.relative_to(root).parts) + 1]:
            try:
                limit = (group / most).read_text().strip()
                if limit != "max":
                    yield int(limit) - int((group / used).read_text()) + _fields(group / "memory.stat")[cached]
            except (OSError, KeyError):  # the root has no limit
                continue


def _fields(path: Path) -> dict[str, int]:
    return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines()) if len(words) > 1}


def limit_memory(more_bytes: int) -> None:
    """Limit the additional memory of this process, 0 for no limit; beyond, allocations fail.

    Python and Pillow then raise a `MemoryError`, and other libraries other errors.
    """
    if not more_bytes:
        return
    taken = _fields_of_status()["VmData:"] * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = taken + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _fields_of_status() -> dict[str, int]:
    lines = (line.split() for line in (PROC / "self" / "status").read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if words[-1] == "kB"}

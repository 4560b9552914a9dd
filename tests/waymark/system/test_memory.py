import os
import sys

import pytest
from closure import ROOT

from waymark.system.memory import available_bytes
from waymark.system.processes import run_command
from waymark.system.workers import available_workers

GIB = 2**30


def machine(folder, *lines, **files):
    """What the kernel tells: 8 GiB are available, and the groups that the lines and files describe."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/meminfo").write_text(f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n")
    (folder / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))
    for name, content in files.items():
        path = folder / "cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return available_bytes(folder / "proc", folder / "cgroup")


def test_without_groups_the_machine_says_how_much_there_is(tmp_path):
    assert machine(tmp_path, "0::/", "9:cpu:/job") == 8 * GIB


def test_the_least_of_all_groups_counts_and_cached_files_make_room(tmp_path):
    found = machine(
        tmp_path,
        "0::/slice/job",
        slice__job__memory_dot_max=f"{4 * GIB}\n",
        slice__job__memory_dot_current=f"{3 * GIB}\n",
        slice__job__memory_dot_stat=f"anon 5\ninactive_file {GIB}\n",
        slice__memory_dot_max="max\n",
        slice__memory_dot_current=f"{3 * GIB}\n",
        slice__memory_dot_stat="inactive_file 0\n",
    )
    assert found == 2 * GIB
    (tmp_path / "cgroup/slice/memory.max").write_text(f"{4 * GIB}\n")  # the slice has a limit, too
    assert available_bytes(tmp_path / "proc", tmp_path / "cgroup") == GIB


@pytest.mark.parametrize("seen", ["job", ""], ids=["the whole tree", "a container's own group"])
def test_groups_of_the_first_version(tmp_path, seen):
    inside = f"memory__{seen}__" if seen else "memory__"
    files = {
        f"{inside}memory_dot_limit_in_bytes": f"{3 * GIB}\n",
        f"{inside}memory_dot_usage_in_bytes": f"{2 * GIB}\n",
        f"{inside}memory_dot_stat": f"total_inactive_file {GIB // 2}\n",
    }
    assert machine(tmp_path, "4:memory:/job", "3:cpu:/", **files) == 3 * GIB // 2


def test_a_group_that_is_full_leaves_nothing(tmp_path):
    files = {"memory_dot_max": "1000\n", "memory_dot_current": "2000\n", "memory_dot_stat": "inactive_file 0\n"}
    assert machine(tmp_path, "0::/", **files) == 0


def test_there_are_as_many_workers_as_memory_allows_and_at_least_one():
    cpus = len(os.sched_getaffinity(0))
    assert available_workers() == available_workers(1) == cpus
    assert available_workers(10**18) == 1
    assert available_workers(available_bytes() * 2 // 3) == 1


def test_beyond_the_limit_allocations_fail():
    code = """
from waymark.system.memory import limit_memory
limit_memory(100 * 2**20)
kept = bytearray(60 * 2**20)
try:
    bytearray(60 * 2**20)
except MemoryError:
    print("refused")
"""
    done = run_command([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "refused\n"

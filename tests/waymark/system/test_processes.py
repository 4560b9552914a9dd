import ast
import os
import subprocess
import sys
import threading

import pytest
from closure import ROOT

from waymark.system.processes import run_command, start_command
from waymark.system.workers import in_processes

STARTERS = {  # what starts a process, as far as anybody may come to use it
    *(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")),
    *(f"subprocess.{name}" for name in ("getoutput", "getstatusoutput")),
    *(f"os.{name}" for name in ("fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp", "startfile")),
    *(f"os.spawn{ending}" for ending in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *("pty.fork", "pty.spawn", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell"),
    *("concurrent.futures.ProcessPoolExecutor", "concurrent.futures.process.ProcessPoolExecutor"),
    *(f"{package}.{name}" for package in ("multiprocessing", "torch.multiprocessing", "multiprocessing.context")
      for name in ("Process", "Pool", "Manager", "get_context", "spawn", "start_processes", "SpawnContext")),
    *("multiprocessing.pool.Pool", "multiprocessing.managers.SyncManager", "multiprocessing.resource_tracker.main"),
    *("pebble.ProcessPool", "pebble.concurrent.process", "pebble.asynchronous.process", "pebble.process"),
    *("joblib.Parallel", "anyio.run_process", "anyio.open_process", "psutil.Popen"),
}  # fmt: skip
ALLOWED = {
    ("waymark/system/processes.py", "subprocess.run"),
    ("waymark/system/processes.py", "subprocess.Popen"),
    ("waymark/system/workers.py", "pebble.ProcessPool"),  # in the context that binds
}


def started_in(source):
    """Dotted names of the calls that start processes, and of loaders whose workers are not bound."""
    tree, names = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            whole = {alias.asname: alias.name for alias in node.names if alias.asname}
            roots = {alias.name.split(".")[0] for alias in node.names if not alias.asname}
            names |= whole | {root: root for root in roots}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def dotted(node):
        if isinstance(node, ast.Attribute):
            return f"{dotted(node.value)}.{node.attr}"
        return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""

    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, keywords = dotted(node.func), {keyword.arg for keyword in node.keywords}
            if name in STARTERS:
                yield name
            if name.endswith(".DataLoader") and "num_workers" in keywords and "worker_init_fn" not in keywords:
                yield name
            if "n_jobs" in keywords:
                yield f"{name} with n_jobs"


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess as s\ns.run([])",
        "from subprocess import Popen as P\nP([])",
        "import os\nos.system('true')",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()",
        "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor()",
        "import multiprocessing\nmultiprocessing.get_context('spawn').Pool()",
        "from torch.utils.data import DataLoader\nDataLoader(1, num_workers=2)",
        "from sklearn.neighbors import NearestNeighbors\nNearestNeighbors(n_jobs=-1)",
    ],
)
def test_whoever_starts_a_process_is_found(source):
    assert list(started_in(source))


def test_processes_are_started_in_one_place():
    found = {
        (str(path.relative_to(ROOT)), name)
        for floor in ("waymark", "tasks", "flows")
        for path in sorted((ROOT / floor).rglob("*.py"))
        for name in started_in(path.read_text())
    }
    assert found <= ALLOWED, (
        "use waymark.system.processes.run_command or start_command, or waymark.system.workers.in_processes"
    )


def test_a_process_whose_parent_has_died_already_ends():
    code = "import os; from waymark.system.processes import die_with_parent; die_with_parent({}); print('lives on')"
    for parent, said in (("os.getppid()", "lives on\n"), ("os.getppid() + 1", "")):
        command = [sys.executable, "-c", code.format(parent)]
        done = run_command(command, cwd=ROOT, capture_output=True, text=True)
        assert (done.stdout, done.returncode) == (said, 0 if said else 1)


def process_id(_):
    return os.getpid()


def test_a_pool_outlives_the_thread_that_began_it():
    """The kernel's signal follows the thread that started a process, not the process of that thread."""
    found, seen = in_processes(process_id, range(12), chunk=1, workers=1), []
    thread = threading.Thread(target=lambda: seen.append(next(found)))
    thread.start()
    thread.join()
    seen.extend(found)
    assert len(seen) == 12
    assert len(set(seen)) == 1
    assert seen[0] != os.getpid()


def test_a_command_outlives_the_thread_that_started_it():
    started = []
    thread = threading.Thread(target=lambda: started.append(start_command(["sleep", "600"], stdin=subprocess.DEVNULL)))
    thread.start()
    thread.join()
    (child,) = started
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
    finally:
        child.kill()
        child.wait()


def test_a_command_that_is_not_there_is_an_error_of_the_caller():
    for begin in (run_command, start_command):
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            begin(["no-such-program"])

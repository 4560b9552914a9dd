"""How tests are shared out between processes."""

import os
import subprocess
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch, here and in all that tests start: threads wait for each other

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling our own code costs each process of a project a second

collect_ignore = ["support/warm_server.py"]  # a program: to import it is to start it
WHOLE_RUNS = {"finished", "registered"}
STARTED = "WAYMARK_TESTS"  # in the environment of all that the tests of a process start, however far away from it
GUARD = f"""
import os, select, sys
import psutil

try:
    select.select([os.pidfd_open(int(sys.argv[1]))], [], [])
except ProcessLookupError:  # it ended before this began
    pass
for process in psutil.process_iter():
    try:
        if process.environ().get({STARTED!r}) == sys.argv[1] and process.pid != os.getpid():
            process.kill()
    except psutil.Error:
        pass
"""


def pytest_configure():
    """End what tests have started when their process is gone, also by Ctrl-C or a kill."""
    os.environ[STARTED] = str(os.getpid())
    subprocess.Popen([sys.executable, "-c", GUARD, str(os.getpid())], start_new_session=True, env=dict(os.environ))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one process, and with them those of other files that share a whole run."""
    groups = {item.path: item.path.stem for item in items}
    for item in items:
        for shared in WHOLE_RUNS.intersection(getattr(item, "fixturenames", ())):
            groups[item.path] = shared
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item.path]))

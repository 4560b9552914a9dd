"""How tests are shared out between processes."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch, here and in all that tests start: threads wait for each other

WHOLE_RUNS = {"finished", "registered"}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one process, and with them those of other files that share a whole run."""
    groups = {item.path: item.path.stem for item in items}
    for item in items:
        for shared in WHOLE_RUNS.intersection(getattr(item, "fixturenames", ())):
            groups[item.path] = shared
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item.path]))

"""One project in each test process for all tests that need a whole run: it costs a minute."""

import pytest
from toy import clone


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small project that `python -m flows.pipeline` has carried from pictures to a registered model."""
    project = clone(tmp_path_factory.mktemp("finished") / "project")
    project.printed = project.run("python", "-m", "flows.pipeline").stdout
    return project

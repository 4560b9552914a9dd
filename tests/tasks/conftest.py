"""The data stages cost some twenty seconds: once in each test process, for all tests that train on their outputs."""

import shutil

import pytest
from small import DATA_STAGES, run, write_params, write_table


@pytest.fixture(scope="session")
def data_stages(tmp_path_factory):
    """A small project whose data stages have run; hands out whole copies of it."""
    made = tmp_path_factory.mktemp("data_stages") / "project"
    made.mkdir()
    write_table(made)
    write_params(made)
    for stage in DATA_STAGES:
        result = run(made, stage)
        assert result.returncode == 0, result.stderr

    def copy(folder):
        shutil.copytree(made, folder, dirs_exist_ok=True)
        return folder

    return copy

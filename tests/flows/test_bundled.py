"""The bundled data come out as dvc.lock says, on whatever machine this runs."""

import pytest
from toy import DATA_STAGES, clone

pytestmark = pytest.mark.slow


def test_data_stages_leave_dvc_lock_as_it_is(tmp_path):
    project = clone(tmp_path / "bundled", small=False)
    committed = project.output_md5()
    assert sorted(project.repro("--no-commit", "split", "grid")) == sorted(DATA_STAGES)  # into no cache, which is slow
    assert project.output_md5() == committed

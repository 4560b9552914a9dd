"""`python -m flows.drift`: it reads the data of the last run, wherever that worked."""

import pytest

from flows.drift import folder_of_data
from tasks.training.tables import RECORDS
from waymark.errors import WaymarkError


def test_data_of_the_nights_come_first_and_no_data_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WaymarkError, match=r"there are no data to compare: .*wait for a nightly run, or make run"):
        folder_of_data()
    for folder in (tmp_path, tmp_path / ".nights/checkout"):
        (folder / RECORDS).parent.mkdir(parents=True)
        (folder / RECORDS).touch()
        assert folder_of_data() == folder


@pytest.mark.slow
def test_the_command_compares_with_the_champion_of_each_name(registered):
    printed = registered.run("python", "-m", "flows.drift").stdout
    assert f"waymark-location: the data in {registered.folder} against those of the champion" in printed
    assert "waymark-landmark has no champion" in printed
    assert "No drift." in printed

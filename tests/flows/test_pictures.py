"""A night's checkout whose input is made of links reads what the operator's holds, and no more."""

import subprocess

import pytest
from closure import ROOT
from PIL import Image
from ruamel.yaml import YAML

from flows.nights.pictures import mirror_input
from tasks.download import STAGE, choose_source


def found(source, path):
    document = YAML(typ="safe").load(ROOT / "params.yaml")
    document["download"].update(source=source, path=path)
    each = choose_source(STAGE.read(document)).find()
    return sorted(each.pictures), each.fetched.records.to_pylist(), each.fetched.counts


@pytest.fixture
def checkouts(tmp_path):
    """An operator's checkout with pictures of its own, one of them a link out, and a nightly run's."""
    operator, night = tmp_path / "operator", tmp_path / "night"
    for place in ("photos/trip", "table/images", *(f"quads/images/{uuid}" for uuid in "ab")):
        (operator / "input" / place).mkdir(parents=True)
        for name in ("0.jpg", "90.jpg"):
            Image.new("RGB", (4, 3)).save(operator / "input" / place / name)
    Image.new("RGB", (4, 3)).save(tmp_path / "secret.jpg")
    (operator / "input/photos/out.jpg").symlink_to(tmp_path / "secret.jpg")
    (operator / "input/photos/trip/in.jpg").symlink_to("0.jpg")
    (operator / "input/table/list.csv").write_text("path\nimages/0.jpg\nimages/90.jpg\n")
    (operator / "input/quads/data.csv").write_text("uuid,latitude,longitude\na,45,16\nb,45,17\n")
    night.mkdir()
    subprocess.run(["git", "init", "--quiet", str(night)], check=True)
    return operator, night


@pytest.mark.parametrize(
    ("source", "path"),
    [("photos", "input/photos"), ("table", "input/table"), ("table", "input/table/list.csv"), ("quads", "input/quads")],
)
def test_sources_follow_the_links_of_a_mirror_and_no_others(checkouts, monkeypatch, source, path):
    operator, night = checkouts
    (night / "params.yaml").write_text(f"download: {{path: {path}}}\n")
    mirror_input(operator, night)
    monkeypatch.chdir(operator)
    expected = found(source, path)
    assert len(expected[0]) > 1
    assert not any("out.jpg" in name for name in expected[0])
    monkeypatch.chdir(night)
    assert found(source, path) == expected

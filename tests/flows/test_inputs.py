"""What DVC cannot hash is named before DVC reads the folder: it would stop without a name, or wait for ever."""

import os
import subprocess
from pathlib import Path

import pytest
import warm
from dvc.repo import Repo
from toy import clone

from flows.stages.inputs import check_input, check_inputs
from waymark.errors import SourceError

DVC_YAML = "stages:\n  s:\n    cmd: touch out\n    deps: [input]\n    outs: [out]\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input/trip").mkdir(parents=True)
    (tmp_path / "input/a.jpg").write_bytes(b"a")
    (tmp_path / "input/.hidden").write_bytes(b"b")
    (tmp_path / "input/link.jpg").symlink_to("a.jpg")
    (tmp_path / "input/folder").symlink_to("trip")
    return tmp_path


def broken_link(folder):
    (folder / "b.jpg").symlink_to("nowhere.jpg")


def pipe(folder):
    os.mkfifo(folder / "b.jpg")


def device(folder):
    (folder / "b.jpg").symlink_to("/dev/zero")


def no_utf8(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(b"c")


def folder_no_utf8(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).mkdir()


FAULTS = [
    (broken_link, r"b\.jpg is a broken link; DVC reads every file of download\.path: remove it"),
    (pipe, r"b\.jpg is a pipe, socket or device, which DVC would wait for"),
    (device, r"b\.jpg is a pipe, socket or device"),
    (no_utf8, r"caf\\xe9\.jpg has a name that is no UTF-8"),
    (folder_no_utf8, r"caf\\xe9 has a name that is no UTF-8"),
]


@pytest.mark.parametrize(("fault", "said"), FAULTS)
def test_what_dvc_cannot_hash_is_named_unless_dvc_ignores_it(project, fault, said):
    Repo.init(no_scm=True)
    check_input(Path("input"))
    fault(project / "input/trip")
    with pytest.raises(SourceError, match=f"input/trip/{said}.*, or name it in .dvcignore") as raised:
        check_input(Path("input"))
    assert "\n" not in str(raised.value)
    (project / ".dvcignore").write_text("/input/trip/b.jpg\n/input/trip/caf?.jpg\n/input/trip/caf?/\n")
    check_input(Path("input"))
    (project / ".dvcignore").write_text("/input/trip/\n")
    check_input(Path("input"))


@pytest.mark.parametrize("fault", [broken_link, no_utf8])
def test_dvc_itself_stops_there_and_goes_on_where_it_is_ignored(project, fault):
    """If DVC learns to count such files, the check is to go."""
    (project / "dvc.yaml").write_text(DVC_YAML)
    Repo.init(no_scm=True)
    fault(project / "input/trip")
    repro = [warm.path() / "dvc", "repro", "--quiet"]
    assert subprocess.run(repro, check=False, timeout=60).returncode != 0
    (project / ".dvcignore").write_text("/input/trip/b.jpg\n/input/trip/caf?.jpg\n")
    assert subprocess.run(repro, check=False, timeout=60).returncode == 0


def test_the_pipeline_stops_before_dvc_reads_the_folder(tmp_path, monkeypatch):
    project = clone(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    check_inputs()
    pipe(project.folder / "input")
    with pytest.raises(SourceError, match=r"input/b\.jpg is a pipe"):
        check_inputs()


def test_outside_the_checkout_dvc_ignores_nothing(project, tmp_path_factory):
    Repo.init(no_scm=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    broken_link(elsewhere)
    (project / ".dvcignore").write_text("b.jpg\n")
    with pytest.raises(SourceError, match=r"b\.jpg is a broken link; .*: remove it$"):
        check_input(elsewhere)


def test_a_table_that_is_a_pipe_is_named(project):
    Repo.init(no_scm=True)
    os.mkfifo(project / "photos.csv")
    with pytest.raises(SourceError, match=r"photos\.csv is a pipe"):
        check_input(Path("photos.csv"))

"""Two checkouts that share nothing but a folder as DVC's remote, as two machines do. Real DVC, real git."""

import subprocess
import sys

import pytest
from tiny import git, tiny

from flows.stages.repro import reproduce
from flows.train import _train_as_guest
from flows.workers import sharing
from waymark.errors import WaymarkError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """An orchestrator's checkout with its data at hand, a worker's folder, and the folder between them."""
    top = tmp_path_factory.mktemp("machines")
    project = tiny(top / "here")
    assert project.repro("download") == ["download"]
    (top / "there").mkdir()
    return project, top / "there", top / "remote"


@pytest.fixture
def here(machines, monkeypatch):
    monkeypatch.chdir(machines[0].folder)
    return machines


@pytest.fixture
def shared(here):
    """The same, once what a training reads lies in the remote."""
    project, there, remote = here
    sharing.use_remote(str(remote))
    assert sharing.push_inputs("train@cells", print) is None
    return project, there, remote


def test_a_training_on_another_machine_comes_back_through_the_remote(shared, monkeypatch):
    project, there, remote = shared
    logged = []
    assert project.run("dvc", "remote", "list").stdout.split()[0] == "waymark"
    assert git(project.folder, "status", "--porcelain") == "?? dvc.lock"  # neither .dvc/config nor a commit knows of it
    with sharing.handed_over(str(remote)) as handover:
        monkeypatch.chdir(there)
        for words in ("init --no-scm", "remote add --local waymark nowhere", "remote modify --local waymark jobs 3"):
            subprocess.run([sys.executable, "-m", "dvc", *words.split(), "--quiet"], check=True)
        ended = sharing.train_as_guest("train@cells", handover, str(remote), {}, logged.append)
    assert (ended.name, ended.is_completed()) == (sharing.PUSHED, True), logged
    assert not list((remote / "handovers").iterdir())
    guest = there / ".work/guests/train@cells"
    assert "jobs = 3" in (guest / ".dvc/config.local").read_text()  # as people write a password or a key file
    assert git(guest, "rev-parse", "HEAD") == git(project.folder, "rev-parse", "HEAD")
    assert git(guest, "status", "--porcelain") == "?? dvc.lock"
    assert (guest / "trained/cells/model.txt").read_text() == "cellsplaces"
    assert not (guest / "data/filtered").exists()  # it took what the stage reads, and no more

    monkeypatch.chdir(project.folder)
    assert not (project.folder / "trained").exists()
    logged.clear()
    ended = reproduce("train@cells", {}, logged.append, "--pull")
    assert ended.name == "Skipped"
    assert not any("Running stage" in line for line in logged)
    assert (project.folder / "trained/cells/model.txt").read_text() == "cellsplaces"


def test_the_same_remote_serves_people(here, tmp_path):
    project, _, remote = here
    sharing.use_remote(str(remote))
    project.repro()
    assert sharing.push_all(print) is None
    git(project.folder, "clone", "--quiet", ".", str(tmp_path / "person"))
    (tmp_path / "person/dvc.lock").write_text(project.lock())
    subprocess.run(
        [sys.executable, "-m", "dvc", "remote", "add", "--local", "--default", "ours", str(remote)],
        cwd=tmp_path / "person",
        check=True,
        capture_output=True,
    )
    other = type(project)(tmp_path / "person")
    assert other.repro("--pull") == []
    assert other.bytes_of("data", "trained", "reports") == project.bytes_of("data", "trained", "reports")


def test_a_worker_without_a_remote_says_what_is_missing(here):
    with pytest.raises(WaymarkError, match=r"does not see the checkout that asks for train@cells; .*--remote URL"):
        _train_as_guest("train@cells", None, None, {}, print)


def test_code_that_is_no_longer_there_is_named_with_the_remote(here, tmp_path):
    with pytest.raises(WaymarkError, match=rf"cannot reach the remote {tmp_path}/nowhere: .*No such file"):
        sharing.train_as_guest("train@cells", "gone", str(tmp_path / "nowhere"), {}, print)


def test_a_remote_that_cannot_be_reached_fails_the_stage(here, tmp_path):
    sharing.use_remote(str(tmp_path / "file/remote"))
    (tmp_path / "file").write_text("no folder")
    failed = sharing.push_inputs("train@cells", print)
    assert failed.message.startswith(f"dvc push to {tmp_path / 'file/remote'}: ERROR")

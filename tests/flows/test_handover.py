"""A checkout's code in one file: no origin has to know the commit, and no file is missing."""

import pytest
from operator_checkout import Operator

from flows.nights.checkout import nightly_checkout
from flows.nights.repository import CheckoutError
from flows.workers.handover import pack, unpack

pytestmark = pytest.mark.slow


@pytest.fixture
def operator(tmp_path, monkeypatch):
    operator = Operator(tmp_path / "operator's 100% ö")
    operator.folder.mkdir()
    monkeypatch.chdir(operator.folder)
    operator.begin()
    return operator


def test_the_other_machine_sees_commit_and_changes_as_git_does_here(operator, tmp_path):
    operator.commit({"gone.txt": "", "kept.txt": "1"})
    operator.write({"kept.txt": "2", "dvc.lock": "stages: {}", "waymark/new.py": "", "notes.txt": "of nobody else"})
    (operator.folder / "gone.txt").unlink()
    before = operator.contents()
    pack(tmp_path / "archive")
    assert operator.contents().keys() == before.keys()

    other = Operator(tmp_path / "other")
    other.write({"data/raw/mark": "ignored", "left.txt": "of the last training"})
    unpack(tmp_path / "archive", other.folder)
    unpack(tmp_path / "archive", other.folder)
    assert other.git("rev-parse", "HEAD") == operator.git("rev-parse", "HEAD")
    (operator.folder / "notes.txt").unlink()
    assert other.git("status", "--porcelain") == operator.git("status", "--porcelain")
    assert other.git("diff", "HEAD") == operator.git("diff", "HEAD")
    assert (other.folder / "data/raw/mark").exists()
    assert not (other.folder / "left.txt").exists()
    assert not (other.folder / "gone.txt").exists()


def test_a_commit_that_only_a_night_made_is_handed_over(operator, tmp_path):
    operator.mark("one")
    operator.night()
    operator.mark("two")  # both sides have moved on: the next night makes a merge
    with nightly_checkout() as night:
        assert len(operator.git("log", "-1", "--format=%P", night.revision).split()) == 2
        pack(tmp_path / "archive")
        unpack(tmp_path / "archive", tmp_path / "other")
        other = Operator(tmp_path / "other")
        assert other.git("rev-parse", "HEAD") == night.revision
        assert other.git("status", "--porcelain") == ""
        assert (other.folder / "dvc.lock").read_bytes() == (night.folder / "dvc.lock").read_bytes()


def test_without_a_commit_there_is_nothing_to_hand_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckoutError, match="is no git checkout with a commit"):
        pack(tmp_path / "archive")

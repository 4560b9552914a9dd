"""Folders that are made a checkout of a commit, whatever they were before; real git."""

import pytest
from operator_checkout import Operator

from flows.nights.repository import CheckoutError, find, git, put, uncommitted, with_lock


@pytest.fixture
def operator(tmp_path):
    operator = Operator(tmp_path / "operator's 100% ö")
    operator.folder.mkdir()
    operator.git("init", "--quiet", "--initial-branch", "main")
    operator.commit({".gitignore": "/data/\n", "params.yaml": "a: 1\n", "old.txt": "", "dvc.lock": "stages: {}\n"})
    return operator


def test_a_folder_has_the_files_of_the_commit_and_what_git_ignores(operator, tmp_path):
    put(operator.folder, tmp_path / "folder", operator.git("rev-parse", "HEAD"))
    other = Operator(tmp_path / "folder")
    other.write({"data/kept.txt": "", "left.txt": "", "params.yaml": "a: 2\n"})
    operator.git("rm", "--quiet", "old.txt")
    commit, before = operator.commit({"new.txt": ""}), operator.contents()
    put(operator.folder, other.folder, commit)
    assert operator.contents() == before
    names = {str(path.relative_to(other.folder)) for path in other.folder.rglob("*") if ".git/" not in f"{path}/"}
    assert names == {".gitignore", "params.yaml", "dvc.lock", "new.txt", "data", "data/kept.txt"}
    assert (other.git("rev-parse", "HEAD"), other.git("status", "--porcelain")) == (commit, "")
    assert not (other.folder / ".git/objects" / commit[:2]).exists()  # nothing is copied


def test_settings_of_the_repository_count_in_the_folder_but_for_what_it_has_of_its_own(operator, tmp_path):
    operator.git("config", "filter.shout.smudge", "tr a-z A-Z")
    operator.git("config", "core.bare", "false")
    put(operator.folder, tmp_path / "folder", operator.commit({".gitattributes": "*.txt filter=shout", "a.txt": "a"}))
    assert (tmp_path / "folder/a.txt").read_text() == "A"
    operator.git("config", "core.bare", "true")
    put(operator.folder, tmp_path / "folder", operator.git("rev-parse", "main"))
    assert git(tmp_path / "folder", "rev-parse", "--is-bare-repository") == "false"


def test_changes_are_named_and_an_error_of_git_is_its_last_line(operator, tmp_path):
    assert uncommitted(operator.folder) == set()
    operator.write({"params.yaml": "a: 2\n", "tasks/new.py": "", "notes.txt": "mine"})
    assert uncommitted(operator.folder) == {"params.yaml", "tasks/new.py"}
    with pytest.raises(CheckoutError, match=r"^git rev-parse: fatal: "):
        git(tmp_path, "rev-parse", "HEAD")
    assert find(operator.folder, "nowhere") is None


def test_a_tree_with_another_lock_differs_in_nothing_else(operator):
    lock = git(operator.folder, "hash-object", "-w", "--stdin", given="stages: {a: {}}\n")
    tree = with_lock(operator.folder, "HEAD", lock)
    assert operator.git("diff", "--name-only", "HEAD", tree) == "dvc.lock"
    assert operator.git("diff", "--name-status", "HEAD", with_lock(operator.folder, "HEAD", None)) == "D\tdvc.lock"

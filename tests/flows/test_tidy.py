"""Tidying takes what only nights of long ago need, and nothing that an alias, a tag or a kept night needs."""

import fcntl
import os
import re
import shutil
import sqlite3
import subprocess

import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow

LOCATION = "waymark-location"
PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def git(project, *arguments):
    return subprocess.run(["git", *arguments], cwd=project.folder, capture_output=True, text=True, check=True).stdout


def cached(project):
    cache = project.folder / ".dvc/cache/files/md5"
    return {f"{path.parent.name}{path.name}" for path in cache.rglob("*") if path.is_file()}


def made_by(stages):
    return {out["md5"] for stage in stages.values() for out in stage["outs"]}


@pytest.fixture(scope="module")
def nights(registered, tmp_path_factory):
    """Three nights on the branch `nights`, each with another training.

    The first model is champion, the last challenger; the second has neither alias nor history.
    """
    project = type(registered)(tmp_path_factory.mktemp("tidy") / "project")
    shutil.copytree(registered.folder, project.folder, symlinks=True)
    with sqlite3.connect(project.folder / "mlflow.db") as database:  # which names each artifact by its whole path
        for table, column in PATHS:
            change = f"update {table} set {column} = replace({column}, ?, ?)"
            database.execute(change, (str(registered.folder), str(project.folder)))
    git(project, "switch", "--quiet", "--create", "nights")
    project.commit("First night")
    project.locks = [project.stages()]
    for number in (2, 3):
        project.change(models__coordinates__seed=number)
        project.repro()
        project.register()
        project.commit(f"Night {number}")
        project.locks.append(project.stages())
    store = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    for version in store.search_model_versions(f"name = '{LOCATION}'"):
        locked = git(project, "rev-list", "--reverse", "nights").split()[-4 + int(version.version)]
        store.set_model_version_tag(LOCATION, version.version, "waymark.git.locked_revision", locked)
    return project


def tidy(project, *arguments, **options):
    return project.run("python", "-m", "flows.tidy", *arguments, **options)


def test_nothing_goes_that_a_night_an_alias_or_a_tag_needs(nights):
    store, before = MlflowClient(f"sqlite:///{nights.folder}/mlflow.db"), cached(nights)
    runs = {run.info.run_id for run in store.search_runs(["1"])}
    second = store.get_model_version(LOCATION, "2")
    only_second = made_by(nights.locks[1]) - made_by(nights.locks[0]) - made_by(nights.locks[2])
    assert only_second <= before
    old = nights.folder / ".work/train" / ("0" * 16)
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    fresh = nights.folder / ".work/train" / ("1" * 16)
    fresh.mkdir()

    said = tidy(nights, "--keep", "1", "--dry-run").stdout
    assert "Nothing was removed" in said
    assert cached(nights) == before
    assert old.exists()
    assert {run.info.run_id for run in store.search_runs(["1"])} == runs
    count = int(re.search(r"\| files of DVC's cache \| ([\d,]+) \|", said).group(1).replace(",", ""))
    assert count >= len(only_second) > 0
    assert re.search(r"\| folders of unfinished work \| 1 \|", said)

    said = tidy(nights, "--keep", "1").stdout
    assert said.endswith("Removed.\n")
    left = cached(nights)
    assert len(before - left) == count
    assert not only_second & left
    assert not old.exists()
    assert fresh.exists()
    assert {run.info.run_id for run in store.search_runs(["1"])} == runs - {second.run_id}
    assert {str(version.version) for version in store.search_model_versions(f"name = '{LOCATION}'")} == {"1", "3"}
    for number in (0, 2):  # the champion's night, which an alias needs, and the last
        assert made_by(nights.locks[number]) <= left
    picture = next((nights.folder / "data/raw/images").rglob("*.jpg"))
    nights.run("waymark", "guess", "--model", "champion", str(picture))
    first = git(nights, "rev-list", "--reverse", "nights").split()[-3]
    git(nights, "checkout", "--quiet", "--detach", first)
    try:
        nights.run("dvc", "checkout", "--force")
        assert nights.stages() == nights.locks[0]
    finally:
        git(nights, "checkout", "--quiet", "--force", "nights")
        nights.run("dvc", "checkout", "--force")


def test_a_commit_whose_outputs_were_never_here_needs_none_of_them(registered, tmp_path, monkeypatch):
    """As the bundled dvc.lock in a fresh clone, whose cache has nothing of it."""
    foreign = tmp_path / "dvc.lock"
    foreign.write_text(re.sub("(?<=md5: )[0-9a-f]{32}", lambda md5: md5.group()[::-1], registered.lock()))
    assert foreign.read_text() != registered.lock()
    with monkeypatch.context() as patch:
        patch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
        git(registered, "read-tree", "HEAD")
        blob = git(registered, "hash-object", "-w", str(foreign)).strip()
        git(registered, "update-index", "--add", "--cacheinfo", f"100644,{blob},dvc.lock")
        tree = git(registered, "write-tree").strip()
    name = ("-c", "user.name=Tester", "-c", "user.email=tester@localhost")
    git(registered, "branch", "elsewhere", git(registered, *name, "commit-tree", tree, "-m", "Elsewhere").strip())
    try:
        assert "| files of DVC's cache | 0 |" in tidy(registered, "--dry-run").stdout
    finally:
        git(registered, "branch", "--quiet", "-D", "elsewhere")


def test_nobody_tidies_under_a_stage_at_work(registered):
    lock = registered.folder / ".work/locks/train@coordinates.lock"
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = tidy(registered, "--dry-run", code=1)
    assert "train@coordinates is at work" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_cache_that_others_may_use_is_left_alone(registered, tmp_path):
    local = registered.folder / ".dvc/config.local"
    local.write_text(f"[cache]\n    dir = {tmp_path / 'shared'}\n")
    try:
        result = tidy(registered, "--dry-run", code=1)
    finally:
        local.unlink()
    assert "where other projects may use it" in result.stderr

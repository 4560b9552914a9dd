"""Nights as an operator types them: `python -m flows.nightly`, without a server."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from closure import ROOT
from tiny import git, tiny

from flows.stages.explain import NOTHING

pytestmark = pytest.mark.slow


def commit(project):
    git(project.folder, "add", "--all")
    git(project.folder, "commit", "--quiet", "--message", "change")
    return git(project.folder, "rev-parse", "HEAD")


def documented(heading, **places):
    """Return the blocks of commands below a heading of docs/upkeep.md, but for `make`, with other folders."""
    section = (ROOT / "docs/upkeep.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = [block.partition("```")[0] for block in section.split("```sh\n")[1:]]
    for name, place in places.items():
        blocks = [block.replace(f"/{name}", str(place)) for block in blocks]
    return ["\n".join(line for line in block.splitlines() if not line.startswith("make ")) for block in blocks]


FOREIGN = """schema: '2.0'
stages:
  download:
    cmd: python -m tasks.tiny download
    outs:
    - path: data/raw
      hash: md5
      md5: 00000000000000000000000000000000.dir
      size: 1
      nfiles: 1
"""  # as the bundled dvc.lock, whose outputs were never here


def kill_all_in(folder):
    """Kill outright what works in a folder, such as the server that a night started before it went to its own."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == folder:
                os.kill(int(process.name), signal.SIGKILL)


def test_a_night_that_fails_or_is_killed_leaves_the_next_one_to_go_on(tmp_path):
    project = tiny(tmp_path / "project")
    nights = project.folder / ".nights/checkout"
    (project.folder / "hold").touch()
    (project.folder / "fail-compare").touch()
    (project.folder / "dvc.lock").write_text(FOREIGN)
    head = commit(project)
    variables = {**os.environ, "PREFECT_HOME": str(project.folder / ".prefect")}
    night = subprocess.Popen([sys.executable, "-m", "flows.nightly"], cwd=project.folder, env=variables)
    while not list(nights.glob("began-*")):
        assert night.poll() is None
        time.sleep(0.1)
    busy = project.run("python", "-m", "flows.nightly", code=1)
    at_work = f"another nightly run is at work in {project.folder} (process {night.pid}); wait for it or stop it"
    night.kill()
    kill_all_in(project.folder)
    night.wait()
    assert at_work in busy.stderr.splitlines()
    git(project.folder, "rm", "--quiet", "hold")
    commit(project)
    failed = project.run("python", "-m", "flows.nightly", code=1)
    assert failed.stderr.splitlines()[-1] == "compare: the disk is full of"
    assert git(project.folder, "log", "--format=%s", f"{head}..nights", "--", "dvc.lock") == ""
    git(project.folder, "rm", "--quiet", "fail-compare")
    head = commit(project)
    lines = [line.split() for line in project.run("python", "-m", "flows.nightly").stdout.splitlines()]
    assert git(nights, "status", "--porcelain") == ""
    assert (nights / "trained/cells/model.txt").exists()
    ended = {line[0]: line[1] for line in lines if len(line) > 1}
    known = ("download", "train@cells", "train@coordinates")  # from what the failed one made
    assert {stage: ended.get(stage) for stage in known} == dict.fromkeys(known, "cached")
    assert git(project.folder, "log", "-1", "--format=%s", "nights").endswith(": compare ran")
    assert (project.folder / "dvc.lock").read_text() == FOREIGN
    assert head == git(project.folder, "rev-parse", "HEAD")

    night = git(project.folder, "rev-parse", "nights")
    assert project.run("python", "-m", "flows.nightly", "--explain").stdout.strip() == NOTHING
    project.change(models__cells__seed=77)
    commit(project)
    would = project.run("python", "-m", "flows.nightly", "--explain").stdout.splitlines()
    assert would[0] == "2 stages would run:"
    assert [line.split("`")[1] for line in would if "`" in line] == ["train@cells", "compare"]
    project.change(models__cells__seed=78)
    refused = project.run("python", "-m", "flows.nightly", "--explain", code=1).stderr
    assert "has changes that are in no commit: params.yaml" in refused
    would = project.run("python", "-m", "flows.nightly", "--explain", "--committed-only").stdout
    assert "left out: params.yaml" in would
    assert "seed: 1 -> 77" in would.replace("models.cells.", "")
    assert git(project.folder, "rev-parse", "nights") == night
    git(project.folder, "checkout", "--quiet", "params.yaml")
    project.run("python", "-m", "flows.nightly")
    assert git(project.folder, "log", "-1", "--format=%s", "nights").endswith(": train@cells, compare ran")

    project.run("python", "-c", "from tasks.registry.store import experiment_id; experiment_id()")
    (project.folder / "mlruns").mkdir()
    save, restore = documented("Back up and restore", backup=tmp_path / "backup")
    project.run("bash", "-ec", save)
    project.folder.rename(tmp_path / "lost")
    away = type(project)(tmp_path)
    printed = away.run(
        "bash", "-ec", restore.replace(" waymark", " project").replace("cd waymark", "cd project")
    ).stdout
    assert printed.splitlines()[-1] == NOTHING
    for name in ("mlflow.db", "mlruns", ".prefect", ".dvc/cache", "input/README.md"):
        assert (project.folder / name).exists()
    project.run("bash", "-ec", "git merge --quiet nights && dvc checkout")  # as the page goes on
    assert (project.folder / "trained/cells/model.txt").exists()

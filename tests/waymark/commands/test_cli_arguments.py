"""Wrong arguments are answered in one line, before anything heavy is imported."""

import json
import os
import subprocess
import sys

import pytest
from closure import ROOT

HEAVY = ("torch", "torchvision", "sklearn", "pandas", "geopandas", "pyarrow", "lightning", "mlflow")
RUN_ALL = """
import json, sys
from typer.testing import CliRunner
from waymark.cli import app
for command in sys.argv[1:]:
    result = CliRunner().invoke(app, command.split())
    heavy = [name for name in {heavy!r} if name in sys.modules]
    print(json.dumps([command, result.exit_code, result.stdout, result.stderr, heavy]))
"""
WRONG = {
    "guess nosuch.jpg": "nosuch.jpg does not exist",
    "guess a.jpg nosuch.jpg --each": "nosuch.jpg does not exist",
    "guess photos": "photos is a folder; name its pictures, or use waymark predict photos --out FILE",
    "guess pipe": "pipe is not a regular file",
    "guess a.jpg b.jpg --headings 0,90,180": "--headings names 3 for 2 images",
    "guess a.jpg --model nosuch.waymark": "nosuch.waymark does not exist",
    "guess a.jpg --model /dev/zero": "/dev/zero is no regular file",
    "guess a.jpg --model pipe": "pipe is no regular file",
    "guess a.jpg --model half": "has no calibration",
    "guess a.jpg --model photos": "photos holds no model.ckpt",
    "guess a.jpg --model champion": "there is no registry here",
    "guess a.jpg": "there is no model here",
    "guess a.jpg --html photos": "photos is not a file that can be written",
    "guess a.jpg --html a.jpg/b.html": "a.jpg is not a writable folder",
    "predict nosuch --out a.csv": "nosuch is not a folder",
    "predict photos --out a.csv --model nosuch.waymark": "nosuch.waymark does not exist",
    "score nosuch.csv truth.csv": "nosuch.csv does not exist",
    "score truth.csv photos": "photos is a folder",
    "score /dev/zero truth.csv": "/dev/zero is not a regular file",
    "export a.waymark --model /dev/zero": "/dev/zero is no regular file",
    "export a.jpg --model half": "a.jpg exists and is not an exported model",
    "teach Tower nosuch.jpg --out a.waymark": "nosuch.jpg does not exist",
    "check nosuch": "nosuch does not exist",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What came of each command, all in one process: what one imports, those after it would show."""
    folder = tmp_path_factory.mktemp("arguments")
    for name in ("a.jpg", "b.jpg", "truth.csv"):
        (folder / name).write_bytes(b"whatever")
    os.mkfifo(folder / "pipe")
    (folder / "photos").mkdir()
    (folder / "half").mkdir()
    (folder / "half/model.ckpt").write_bytes(b"no calibration")
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    result = subprocess.run(
        [sys.executable, "-c", RUN_ALL.format(heavy=HEAVY), *WRONG],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return {command: rest for command, *rest in map(json.loads, result.stdout.splitlines())}


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_argument_costs_one_line_and_no_wait(answers, command):
    code, stdout, stderr, heavy = answers[command]
    (line,) = stderr.splitlines()
    assert line.startswith("waymark: ")
    assert WRONG[command] in line
    assert (code, stdout, heavy) == (1, "", [])

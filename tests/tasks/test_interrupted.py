"""A stage that is cut off goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from closure import ROOT
from small import run, write_params, write_table

import tasks.resize
from tasks.common.stage import load_params
from tasks.resize import STAGE as RESIZE
from tasks.resize import resize
from waymark.images import resizing, shards

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path, monkeypatch):
    write_table(tmp_path)
    write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_resize_keeps_finished_shards(project, monkeypatch):
    for stage in ("download", "filter"):
        assert run(project, stage).returncode == 0
    monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 16 * 16 * 3)  # three shards of at most five pictures
    settings = RESIZE.read(load_params())
    decoded = []

    def cut_off(paths, size_px, **options):
        real = resizing.read_pictures(paths, size_px, **options, workers=1)
        for path, picture in zip(paths, real, strict=True):
            if cut_off.armed and len(decoded) == 7:  # in the second shard
                raise KeyboardInterrupt
            decoded.append(path.name)
            yield picture

    cut_off.armed = True
    monkeypatch.setattr(tasks.resize, "read_pictures", cut_off)
    with pytest.raises(KeyboardInterrupt):
        resize(settings)
    assert not (project / "data/shards").exists()
    first = decoded[:5]
    decoded.clear()
    cut_off.armed = False
    resize(settings)
    assert len(decoded) == 7
    assert not set(first) & set(decoded)  # the finished shard is not decoded again
    whole = {path.name: path.read_bytes() for path in (project / "data/shards").iterdir()}
    assert sorted(whole) == ["index.parquet", "quarantine.parquet", *[f"shard-0000{n}.arrow" for n in range(3)]]
    assert not list((project / ".work/resize").iterdir())
    resize(settings)
    assert {path.name: path.read_bytes() for path in (project / "data/shards").iterdir()} == whole


@pytest.fixture
def ready(data_stages, tmp_path, monkeypatch):
    """A project that can train."""
    monkeypatch.chdir(data_stages(tmp_path))
    return tmp_path


def test_training_goes_on_from_its_last_epoch_in_the_same_run(ready):
    project = ready
    write_params(project, models__cells__epochs=12)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{project}/mlflow.db"
    training = subprocess.Popen(
        [sys.executable, "-m", "tasks.train", "cells"], env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in training.stdout:
        if line.startswith("epoch 3 of 12:"):
            break
    time.sleep(0.5)  # in the middle of a later epoch
    training.send_signal(signal.SIGKILL)
    training.wait()
    assert not (project / "trained/cells").exists()
    again = run(project, "train", "cells")
    assert again.returncode == 0, again.stderr
    first = next(line for line in again.stdout.splitlines() if line.startswith("epoch "))
    assert int(first.split()[1]) >= 3
    curves = json.loads((project / "trained/cells/training.json").read_text())["curves"]
    assert [row["epoch"] for row in curves] == list(range(12))
    assert not list((project / ".work/train").iterdir())
    listed = "import mlflow; print(len(mlflow.search_runs(experiment_names=['waymark'])))"
    count = subprocess.run([sys.executable, "-c", listed], env=environment, capture_output=True, text=True, check=True)
    assert count.stdout.split()[-1] == "1"


def test_a_training_repeats_to_the_byte(ready):
    """Also where the one process had the libraries imported before; see tests/support/warm.py."""
    project, written = ready, []
    for python in (None, sys.executable):
        assert run(project, "train", "coordinates", python=python).returncode == 0
        folder = project / "trained/coordinates"
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"model.ckpt", "training.json", "attribution.csv", "exposure.parquet"}
    assert pd.read_parquet(project / "data/split/records.parquet")["split"].isin(["train", "val", "test"]).all()

"""Who is killed outright leaves no process behind: kill -9 of what starts workers, and of what starts commands."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from closure import ROOT
from orphans import alive, wait
from small import run, write_params, write_table

pytestmark = pytest.mark.slow

HANGING = """
import pathlib, time
from PIL import Image, ImageFile

class Hanging(ImageFile.ImageFile):
    format = "HANGING"
    def _open(self):
        if self.fp.read(8) == b"HANGOPEN":
            pathlib.Path("busy").touch()
            time.sleep(600)

Image.register_open("HANGING", Hanging, lambda prefix: prefix.startswith(b"HANG"))
"""
LOADER = """
import pathlib, time
import numpy as np
from waymark.images.batches import Examples, RecordDataset, RecordLoaders

class Shards:
    size_px = 8

class Busy(RecordDataset):
    def __getitem__(self, draw):
        pathlib.Path("busy").touch()
        time.sleep(600)

import waymark.images.batches
waymark.images.batches.RecordDataset = Busy
rows = 4
examples = Examples(["a"] * rows, [[None]] * rows, *(np.zeros((rows, 2)),) * 2, *(np.zeros(rows, np.int64),) * 2)
next(iter(RecordLoaders(Shards(), [None], 2, workers=2).evaluation(examples)))
"""


def download(folder, environment):
    write_params(folder, download__source="synthetic", download__synthetic__places=5000)
    return [sys.executable, "-m", "tasks.download"]


def resize(folder, environment):
    write_table(folder)
    write_params(folder)
    for stage in ("download", "filter"):
        assert run(folder, stage).returncode == 0
    next((folder / "data/raw/images").iterdir()).write_bytes(b"HANGOPEN")
    (folder / "sitecustomize.py").write_text(HANGING)
    environment["PYTHONPATH"] = f"{folder}{os.pathsep}{ROOT}"
    return [sys.executable, "-m", "tasks.resize"]


def loader(folder, environment):
    return [sys.executable, "-c", LOADER]


@pytest.mark.parametrize("begin", [download, resize, loader])
def test_who_is_killed_leaves_no_process_behind(tmp_path, begin):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = begin(tmp_path, environment)
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    workers = []
    try:
        drawn = tmp_path / "data/.raw.new/images"
        assert wait(lambda: (tmp_path / "busy").exists() or drawn.exists() or process.poll() is not None)
        assert process.poll() is None
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert wait(lambda: not alive(workers), 60), [worker.cmdline() for worker in alive(workers)]
    finally:
        process.kill()
        for worker in alive(workers):
            worker.kill()

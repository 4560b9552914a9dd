"""Parameters are checked, and the wrong key is named."""

import errno
import fcntl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from closure import ROOT
from ruamel.yaml import YAML

from tasks.common.outputs import whole_file, whole_folder, work_folder
from tasks.common.stage import Stage, load_params, one_line, only_writer
from tasks.grid import STAGE as GRID
from tasks.training.models import ModelEntry
from waymark.errors import ParameterError, WaymarkError

TRAIN = Stage("train", ModelEntry, section="models.{entry}", shared=("region",), each="models")


@pytest.fixture
def document():
    return YAML(typ="safe").load(ROOT / "params.yaml")


def test_bundled_params_are_accepted(document):
    assert GRID.read(document).spacing_m == document["grid"]["spacing_m"]
    assert TRAIN.read(document, "cells").optimizer.lr == document["models"]["cells"]["optimizer"]["lr"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["grid"].update(spacing_km=40), r"unknown key grid\.spacing_km; did you mean 'spacing_m'\?"),
        (
            lambda d: d["grid"].update(spacing_m="wide"),
            r"grid\.spacing_m: must be a number from 1 up to .* \(it is 'wide'\)",
        ),
        (lambda d: d["grid"].update(spacing_m=True), r"grid\.spacing_m: must be a number"),
        (lambda d: d["grid"].update(spacing_m=-1), r"grid\.spacing_m: must be .* \(it is -1\)"),
        (lambda d: d.update(grid=[1]), r"grid must be a section with keys"),
        (lambda d: d.pop("grid"), r"params\.yaml has no grid; "),
        (lambda d: d.pop("region"), r"params\.yaml has no region; "),
        (
            lambda d: d.update(region=7),
            r"region: must be a code such as HRV, or the path of a vector file or null \(it is 7\)",
        ),
    ],
)
def test_wrong_section_is_named(document, change, message):
    change(document)
    with pytest.raises(ParameterError, match=message):
        GRID.read(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(bakbone="resnet18"), r"unknown key models\.cells\.bakbone; did you mean 'backbone'\?"),
        (lambda m: m["optimizer"].update(learning_rate=1.0), r"unknown key models\.cells\.optimizer.*learning_rate; "),
        (lambda m: m["optimizer"].update(name="adamx"), r"models\.cells\.optimizer.*'adamx'"),
        (lambda m: m["optimizer"].update(lr="fast"), r"models\.cells\.optimizer.*lr.*\(it is 'fast'\)"),
        (
            lambda m: m["augmentation"].update(crop=2),
            r"models\.cells\.augmentation\.crop: must be a number .* up to 1 \(it is 2\)",
        ),
        (lambda m: m.pop("epochs"), r"models\.cells\.epochs is missing"),
        (
            lambda m: m.update(views="conkat"),
            r"models\.cells\.views: must be 'concat', 'mean' or 'attention' \(it is 'conkat'\)",
        ),
    ],
)
def test_wrong_model_entry_is_named(document, change, message):
    change(document["models"]["cells"])
    with pytest.raises(ParameterError, match=message):
        TRAIN.read(document, "cells")


def test_unknown_model_is_named(document):
    with pytest.raises(ParameterError, match=r"params\.yaml has no models\.cels; did you mean 'cells'\?"):
        TRAIN.read(document, "cels")


def test_a_bare_name_stands_for_its_defaults(document):
    document["models"]["cells"].update(head="cells", optimizer="sgd", schedule="plateau")
    entry = TRAIN.read(document, "cells")
    assert (entry.head.answer, entry.optimizer.momentum, entry.schedule.patience) == ("mean", 0.9, 5)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("lr: 1e-3\n")  # a string in YAML 1.1
    assert load_params(path) == {"lr": 0.001}


def test_a_section_under_its_name_of_before_is_refused_with_the_new_one(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("gap: {cells: {}}\n")
    with pytest.raises(ParameterError, match="the section gap is called block_split now; rename it"):
        load_params(path)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "out"

    def write(name, fails=False):
        with whole_folder(folder) as beside:
            (beside / name).write_text(name)
            if fails:
                raise RuntimeError("cut off")

    write("a")
    with pytest.raises(RuntimeError, match="cut off"):
        write("b", fails=True)
    assert [path.name for path in folder.iterdir()] == ["a"]
    write("c")
    assert [path.name for path in folder.iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "page.html"

    def write(text, fails=False):
        with whole_file(path) as beside:
            beside.write_text(text)
            if fails:
                raise RuntimeError("cut off")

    write("first")
    with pytest.raises(RuntimeError, match="cut off"):
        write("half", fails=True)
    assert path.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_work_is_found_again_for_the_same_inputs_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = tmp_path / "records"
    records.write_text("one")
    first = work_folder("resize", {"size_px": 64}, [records])
    assert work_folder("resize", {"size_px": 64}, [records]) == first
    assert work_folder("resize", {"size_px": 32}, [records]) != first
    records.write_text("two")
    assert work_folder("resize", {"size_px": 64}, [records]) != first


def test_a_stage_has_one_writer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with only_writer("grid"), pytest.raises(WaymarkError, match="another process runs grid"), only_writer("grid"):
        pass
    with only_writer("grid"):
        pass  # let go


def test_the_lock_goes_with_the_process(tmp_path):
    code = "import os; from tasks.common.stage import only_writer\nwith only_writer('grid'): os.kill(os.getpid(), 9)"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert run.returncode == -9
    with (tmp_path / ".work/locks/grid.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


CHILD = """
import os, time
from tasks.common.stage import end_with_parent
end_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
print(int(child.stdout.readline()), flush=True)
os.kill(os.getpid(), 9)
"""


# of the shells, bash makes way for a single command, and dash stays between DVC and the stage
@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", CHILD],
        ["/bin/sh", "-c", f"'{sys.executable}' -c '{CHILD}'; : python -m tasks.grid"],
    ],
    ids=["parent", "shell between"],
)
def test_a_stage_dies_with_its_parent(command):
    run = subprocess.run(
        [sys.executable, "-c", PARENT, *command],
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    status = Path("/proc", run.stdout.strip(), "status")
    deadline = time.monotonic() + 20
    while status.exists() and "zombie" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or "zombie" in status.read_text()


def test_help_says_what_is_read():
    run = subprocess.run(
        [sys.executable, "-m", "tasks.grid", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Divide the region into cells" in run.stdout
    assert "Reads grid, region of params.yaml" in run.stdout


def test_a_full_disk_is_named_by_the_file_that_did_not_fit():
    copy = OSError(errno.ENOSPC, "No space left on device", "from/here", None, "to/the/full/disk")
    assert one_line(copy).startswith("No space left on device: to/the/full/disk; make room")
    written = OSError(errno.ENOSPC, "No space left on device", "here")
    assert one_line(written).startswith("No space left on device: here; make room")

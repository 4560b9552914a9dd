import json
import os
import resource
import signal
import subprocess
import sys

import check_sources as made
import psutil
import pytest
from closure import ROOT
from orphans import alive, wait

from waymark.check import check
from waymark.check.opening import guess_source, open_source
from waymark.errors import SourceError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def picture(folder, name, seed=1):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    made.scene(seed).save(folder / name)


def opened(path, source=None):
    found = open_source(path, source)
    paths = [view["path"] for views in found.records["views"].to_pylist() for view in views]
    assert all(found.pictures[own].is_file() and found.pictures[own].is_relative_to(path) for own in paths)
    return found


def snapshot(folder):
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_table_of_pictures_is_told_by_its_column(folder):
    picture(folder, "a.jpg")
    (folder / "notes.csv").write_text("day,weather\n1,rain\n")
    assert guess_source(folder) == "photos"
    (folder / "notes.csv").unlink()
    (folder / "list.csv").write_text("path,latitude,longitude\na.jpg,45.5,16\n")
    assert guess_source(folder) == guess_source(folder / "list.csv") == "table"
    before = snapshot(folder)
    found = opened(folder)
    assert (found.kind, found.records["record_id"].to_pylist()) == ("table", ["a.jpg"])
    assert snapshot(folder) == before
    assert found.pictures == {"images/a.jpg": folder / "a.jpg"}


def test_quadruplets_are_told_by_data_csv_here_or_within(folder):
    for part in ("", "north/"):
        for heading in made.HEADINGS:
            picture(folder, f"{part}images/u{len(part)}/{heading}.jpg", seed=heading)
        (folder / f"{part}data.csv").write_text(f"uuid,latitude,longitude\nu{len(part)},45.5,16\n")
        assert guess_source(folder) == "quads"
        assert opened(folder).kind == "quads"
        (folder / f"{part}data.csv").unlink()
    assert guess_source(folder) == "photos"


def test_all_else_is_photos_unless_somebody_says_so(folder):
    picture(folder, "tour/a.jpg")
    assert opened(folder).records["record_id"].to_pylist() == ["tour/a.jpg"]
    (folder / "list.csv").write_text("path\ntour/a.jpg\n")
    assert opened(folder).kind == "table"
    assert opened(folder, "photos").kind == "photos"


def test_what_download_wrote_is_read_where_it_lies(tmp_path):
    raw = made.clean(tmp_path / "raw")
    (raw / "source.json").write_text(json.dumps({"description": "made", "counts": {"dropped_places": 2}}))
    found = opened(raw)
    assert (found.kind, found.records.num_rows) == ("raw", 28)
    assert (found.description, found.counts) == ("made", {"dropped_places": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_errors_name_the_remedy(folder, tmp_path):
    picture(folder, "a.jpg")
    with pytest.raises(SourceError, match="gone does not exist; name a folder"):
        check(tmp_path / "gone", out=tmp_path / "check.html")
    with pytest.raises(SourceError, match=r"source 'quad' is unknown: did you mean 'quads'\?"):
        check(folder, source="quad", out=tmp_path / "check.html")
    with pytest.raises(SourceError, match=r"no records\.parquet; run the stage download"):
        check(folder, source="raw", out=tmp_path / "check.html")
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_a_folder_of_photos_from_path_to_page(folder, tmp_path):
    """Photos without GPS, one of them all broken: a page, a status, and nothing left behind."""
    for number in range(3):
        picture(folder, f"{number}.jpg", seed=number)
    (folder / "3.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)))
    found = check(folder, out=tmp_path / "new" / "check.html", workers=1)
    assert (found.source, found.status, found.kept) == ("photos", 1, 4)
    assert [finding.kind for finding in found.findings if finding.needs_look] == ["nothing_to_learn", "undecodable"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["check.html"]


def test_swapped_columns_stop_the_filter_and_the_page_says_so(folder, tmp_path):
    lines = ["path,latitude,longitude"]
    for number in range(4):
        picture(folder, f"{number}.jpg", seed=number)
        lines.append(f"{number}.jpg,{17.5 + number / 10},45.5")
    (folder / "list.csv").write_text("\n".join(lines))
    found = check(folder, out=tmp_path / "check.html", region="HRV", workers=1)
    assert found.kept is None
    assert "exchange the two columns" in found.stopped
    assert "the filter would fail: latitude and longitude look swapped" in found.text()
    assert [(finding.kind, finding.count) for finding in found.findings] == [("swapped", 4)]
    assert "it would fail" in found.page.read_text()


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
COMMAND = [sys.executable, "-m", "waymark", "check", "own"]


def test_originals_are_looked_at_where_they_lie(folder, tmp_path):
    """No file is written that is as large as a picture, not even for a while."""
    for number in range(3):
        picture(folder, f"{number}.png", seed=number)
    with (folder / "0.png").open("ab") as file:
        file.truncate(64 * 2**20)  # behind the end of the picture
    run = subprocess.run(
        COMMAND,
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (32 * 2**20, 32 * 2**20)),
    )
    assert "3 pictures" in run.stdout, run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["check.html", "own"]


HANGING = """
import pathlib, time
from PIL import Image, ImageFile

class Hanging(ImageFile.ImageFile):
    format = "HANGING"
    def _open(self):
        self._size, self._mode = (64, 64), "RGB"
    def load(self):
        pathlib.Path("busy").touch()
        time.sleep(600)

Image.register_open("HANGING", Hanging, lambda prefix: prefix.startswith(b"HANG"))
"""


def test_who_kills_the_check_finds_nothing_left_behind(folder, tmp_path):
    for number in range(3):
        picture(folder, f"{number}.jpg", seed=number)
    (folder / "1.jpg").write_bytes(b"HANG")
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    process = subprocess.Popen(
        COMMAND, cwd=tmp_path, env={**ENVIRONMENT, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert wait(lambda: (tmp_path / "busy").exists() or process.poll() is not None)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(workers) >= 2
    assert wait(lambda: not alive(workers), 60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["busy", "own", "sitecustomize.py"]

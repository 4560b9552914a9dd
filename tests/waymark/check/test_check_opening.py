import json

import check_sources as made
import pytest

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


def opened(path, source=None, *, beside):
    with open_source(path, source, beside=beside) as found:
        assert all(
            (found.folder / view["path"]).is_file() for its in found.records["views"].to_pylist() for view in its
        )
        return found


def snapshot(folder):
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_table_of_pictures_is_told_by_its_column(folder, tmp_path):
    picture(folder, "a.jpg")
    (folder / "notes.csv").write_text("day,weather\n1,rain\n")
    assert guess_source(folder) == "photos"
    (folder / "notes.csv").unlink()
    (folder / "list.csv").write_text("path,latitude,longitude\na.jpg,45.5,16\n")
    assert guess_source(folder) == guess_source(folder / "list.csv") == "table"
    before = snapshot(folder)
    found = opened(folder, beside=tmp_path)
    assert (found.kind, found.records["record_id"].to_pylist()) == ("table", ["a.jpg"])
    assert snapshot(folder) == before
    assert not found.folder.exists()


def test_quadruplets_are_told_by_data_csv_here_or_within(folder, tmp_path):
    for part in ("", "north/"):
        for heading in made.HEADINGS:
            picture(folder, f"{part}images/u{len(part)}/{heading}.jpg", seed=heading)
        (folder / f"{part}data.csv").write_text(f"uuid,latitude,longitude\nu{len(part)},45.5,16\n")
        assert guess_source(folder) == "quads"
        assert opened(folder, beside=tmp_path).kind == "quads"
        (folder / f"{part}data.csv").unlink()
    assert guess_source(folder) == "photos"


def test_all_else_is_photos_unless_somebody_says_so(folder, tmp_path):
    picture(folder, "tour/a.jpg")
    assert opened(folder, beside=tmp_path).records["record_id"].to_pylist() == ["tour/a.jpg"]
    (folder / "list.csv").write_text("path\ntour/a.jpg\n")
    assert opened(folder, beside=tmp_path).kind == "table"
    assert opened(folder, "photos", beside=tmp_path).kind == "photos"


def test_what_download_wrote_is_read_where_it_lies(tmp_path):
    raw = made.clean(tmp_path / "raw")
    (raw / "source.json").write_text(json.dumps({"description": "made", "counts": {"dropped_places": 2}}))
    found = opened(raw, beside=tmp_path)
    assert (found.kind, found.folder, found.records.num_rows) == ("raw", raw, 28)
    assert (found.description, found.counts) == ("made", {"dropped_places": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_errors_name_the_remedy(folder, tmp_path):
    picture(folder, "a.jpg")
    with pytest.raises(SourceError, match="gone does not exist; give a folder"):
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
    assert "the filter would stop: latitude and longitude look swapped" in found.text()
    assert [(finding.kind, finding.count) for finding in found.findings] == [("swapped", 4)]
    assert "it would stop" in found.page.read_text()

"""Each planted fault is found, by record id and with its remedy; a clean source has none."""

import re

import check_sources as made
import pytest
from plotly.offline import get_plotlyjs

from waymark.check import check

LIMITS = {"region": "HRV", "min_images": 2}

# Records that the examples of each finding name, and words of its remedy.
PLANTED = {
    "swapped": ({"swapped"}, "Exchange the two numbers"),
    "unreadable": ({"unreadable-far", "unreadable-half", "unreadable-nan"}, "degrees with a decimal point"),
    "null_island": ({"null-island"}, "leave both coordinates empty"),
    "outside": ({"outside"}, "filter.shore_km"),
    "placeholders": ({"notice-0", "notice-1", "notice-2"}, "count as missing views"),
    "even": ({"even"}, "filter.exclude"),
    "undecodable": ({"broken", "cut"}, "Copy the files again"),
    "missing_files": ({"gone"}, "Put the files where the source expects them"),
    "missing_views": ({"three-views"}, "download.quads.missing_views"),
    "two_places": ({"two-places-1", "two-places-2"}, "Correct or remove the wrong one"),
    "two_landmarks": ({"two-names-1", "two-names-2"}, "List both landmarks"),
    "group_leak": ({"leak-1", "leak-2"}, "Put both into the same group"),
    "split_leak": ({"tested"}, "split.by"),
    "same_view_twice": ({"twice"}, "Fetch the views of these records again"),
    "exact_duplicates": ({"copy-1", "copy-2"}, "Nothing to do"),
    "near_duplicates": (
        {*(f"{name}-{number}" for name in ("leak", "near", "two-names", "two-places") for number in (1, 2))},
        "filter.max_images",
    ),
    "small": ({"small"}, "resize.size_px"),
    "small_classes": ({made.HOSTILE}, "filter.min_images"),
    "generic": ({"lunch", "two-names-1", "two-names-2"}, "filter.exclude"),  # the last are of any colour
}
GOOD_TO_KNOW = {"exact_duplicates", "near_duplicates", "small", "small_classes", "generic"}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    return check(made.faulty(folder / "raw"), out=folder / "check.html", workers=2, **LIMITS)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    return check(made.clean(folder / "raw"), out=folder / "check.html", workers=2, **LIMITS)


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found_with_its_remedy(faulty, kind):
    records, remedy = PLANTED[kind]
    [finding] = [finding for finding in faulty.findings if finding.kind == kind]
    assert {record_id for example in finding.examples for record_id in example.record_ids} == records
    assert remedy in finding.remedy
    assert finding.needs_look == (kind not in GOOD_TO_KNOW)


def test_nothing_else_is_found(faulty):
    assert {finding.kind for finding in faulty.findings} == set(PLANTED)
    looks = [finding.needs_look for finding in faulty.findings]
    assert looks == sorted(looks, reverse=True)


def test_a_clean_source_has_no_finding(clean):
    assert [finding.title for finding in clean.findings] == []
    assert clean.status == 0
    assert (clean.kept, clean.dropped) == (28, {})
    assert "Nothing needs a look before training" in clean.page.read_text()


def test_numbers_are_counted(faulty, clean):
    assert clean.counts == {"records": 28, "pictures": 64, "with coordinates": 12, "with a landmark": 16,
                            "landmarks": 2, "groups": 28}  # fmt: skip
    found = {finding.kind: finding for finding in faulty.findings}
    assert found["placeholders"].count == 6
    assert found["undecodable"].count == 2
    assert "1 truncated" in found["undecodable"].why
    assert "1 unreadable" in found["undecodable"].why
    assert found["missing_views"].examples[0].detail == "has 3 views, lacks 270°"
    assert found["two_places"].examples[0].detail == "62 km apart"  # 0.8 degrees of longitude at 45.4 N


def test_the_filter_is_asked_with_its_own_rules(faulty):
    reasons = {"unreadable coordinates": 3, "null island": 1, "outside the region": 2, "exact duplicate": 1,
               "too few images": 1}  # fmt: skip
    assert faulty.dropped == reasons
    assert faulty.kept == faulty.counts["records"] - sum(reasons.values())


def test_the_text_says_what_to_do_and_the_status_that_there_is_something(faulty):
    text = faulty.text()
    assert faulty.status == 1
    assert text.index("needs a look:") < text.index("good to know:") < text.index("the filter would keep")
    for finding in faulty.findings:
        assert finding.title in text
        assert (finding.remedy in text) == finding.needs_look
    assert text.endswith(f"page: {faulty.page}")


def test_the_page_stands_alone_and_runs_no_name(faulty):
    page = faulty.page.read_text()
    assert made.HOSTILE not in page
    assert "&lt;script&gt;document.title=" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page.replace(get_plotlyjs(), ""))
    assert "default-src 'none'" in page
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page
    assert not (faulty.page.parent / ".check.html.new").exists()


def test_contact_sheets_show_landmarks_and_cells_and_frame_the_generic(faulty, clean):
    page = faulty.page.read_text()
    classes = page.partition('id="classes"')[2].partition("</main>")[0]
    assert re.findall(r"<h3>(lake|roof)</h3>", classes) == ["roof", "lake"]
    assert re.findall(r'title="([^"]+)" class="framed"', classes) == ["lunch", "two-names-2", "two-names-1"]
    cells = clean.page.read_text().partition('id="cells"')[2]
    shown = re.findall(r'title="(place-\d\d)"', cells)
    assert len(set(shown)) == 12
    assert page.count("data:image/jpeg;base64,") > 60


def test_same_source_same_page(clean, tmp_path):
    again = check(clean.page.parent / "raw", out=tmp_path / "check.html", workers=1, **LIMITS)
    assert again.page.read_bytes() == clean.page.read_bytes()

"""Check a source before training: its contents, its faults, and remedies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from geopandas import GeoDataFrame

from waymark.check.classes import class_findings, generic_views
from waymark.check.coordinates import coordinate_findings, place_records
from waymark.check.copies import copy_findings, find_copies
from waymark.check.figures import fate_map, side_counts
from waymark.check.findings import Check, Example, Finding, counted, first
from waymark.check.leaks import leak_findings
from waymark.check.opening import Opened, open_source
from waymark.check.page import Content, check_page
from waymark.check.pictures import picture_findings
from waymark.check.sheets import cell_sheets, class_sheets, thumbnails
from waymark.check.survey import Survey, survey
from waymark.data.census import dimension_figures
from waymark.data.filters import Rules, count_reasons, select
from waymark.data.records import landmarks_table
from waymark.errors import CoordinateError
from waymark.geo.regions import load_region
from waymark.system.files import whole_file


def check(
    path: Path,
    *,
    source: str | None = None,
    out: Path = Path("check.html"),
    region: str | None = None,
    shore_km: float = 5.0,
    min_images: int | None = None,
    max_images: int | None = None,
    largest: int | None = None,
    exclude: Sequence[str] = (),
    workers: int | None = None,
) -> Check:
    """Check every record and every picture of a source, and write a page.

    Nothing of the source is changed or copied: pictures are decoded in place.

    Args:
        path: a folder of photos or quadruplets, a table or the folder that holds it, or `data/raw`.
        source: kind of the source; None detects it.
        out: the page to write.
        region: country code or vector file that should contain the records; None for the extent of the data.
        shore_km: as in section `filter` of params.yaml, like the next four.
        min_images: landmarks with fewer records would be dropped.
        max_images: of a landmark with more records, this many would be kept.
        largest: how many landmarks would be kept, the largest first.
        exclude: ids of records, or landmarks, that would be left out.
        workers: number of processes that decode; as many as there are CPUs by default.

    Raises:
        SourceError: the source is missing, unknown or unreadable.
        RegionError: the region is unknown.
    """
    outline = None if region is None else load_region(region)
    rules = Rules(
        shore_km=shore_km, min_images=min_images, max_images=max_images, largest=largest, exclude=tuple(exclude)
    )
    opened = open_source(path, source)
    seen = survey(opened.records, opened.pictures, workers=workers)
    content = _examine(opened, seen, rules, outline, region, title=f"Check of {path}", out=out, workers=workers)
    with whole_file(out) as page:
        page.write_text(check_page(content), encoding="utf-8")
    return content


def _examine(
    opened: Opened,
    seen: Survey,
    rules: Rules,
    outline: GeoDataFrame | None,
    region: str | None,
    *,
    title: str,
    out: Path,
    workers: int | None,
) -> Content:
    places = place_records(seen, outline, shore_km=rules.shore_km)
    copies, ratio = find_copies(seen), generic_views(seen)
    kept, stopped, dropped = _filter(seen, rules, outline)
    findings = [
        *_unlabelled(seen),
        *coordinate_findings(seen, places, region),
        *picture_findings(seen),
        *copy_findings(seen, copies),
        *leak_findings(seen, copies),
        *class_findings(seen, ratio, min_images=rules.min_images),
    ]
    findings.sort(key=lambda finding: not finding.needs_look)
    classes, cells = class_sheets(seen, ratio, opened.names), cell_sheets(seen, places, outline)
    shown = [path for sheet in (*classes, *cells.sheets) for path in sheet.paths]
    shown += [path for finding in findings for example in finding.examples for path in example.paths]
    landmarks = landmarks_table(seen.records, opened.names).to_pandas()
    numbers = _counts(seen, len(landmarks))
    return Content(
        source=opened.kind,
        counts=numbers,
        findings=findings,
        kept=kept,
        stopped=stopped,
        dropped=dropped,
        page=out,
        title=title,
        description=opened.description or f"source: {opened.kind}",
        settings=_settings(rules, region),
        places=fate_map(seen, places, outline),
        landmarks=landmarks,
        too_few=int((landmarks["images"] < (rules.min_images or 0)).sum()),
        read={name.replace("_", " "): count for name, count in opened.counts.items() if count and name not in numbers},
        statuses=seen.statuses(),
        sides=side_counts(seen),
        orientations=_orientations(seen),
        class_sheets=classes,
        cells=cells,
        thumbnails=thumbnails(seen, shown, workers=workers),
    )


def _filter(seen: Survey, rules: Rules, outline: GeoDataFrame | None) -> tuple[int | None, str, dict[str, int]]:
    """Compute what the stage filter would keep and drop, or why it would fail."""
    digests = seen.digests()
    try:
        kept, dropped = select(seen.records, rules, outline, lambda _: digests)
    except CoordinateError as error:
        return None, str(error), {}
    stopped = "" if kept.num_rows else "no record is left; relax filter or region in params.yaml"
    return kept.num_rows or None, stopped, dict(count_reasons(dropped))


def _unlabelled(seen: Survey) -> list[Finding]:
    """Report records with neither coordinates nor a landmark."""
    unnamed = np.array([label is None for label in seen.labels], dtype=bool)
    unlabelled = np.flatnonzero(np.isnan(seen.lat_lon).all(axis=1) & unnamed).tolist()
    if not unlabelled:
        return []
    return [
        Finding(
            "nothing_to_learn",
            f"{counted(len(unlabelled), 'record')} with neither coordinates nor a landmark",
            "Images without coordinates or a label are kept by the filter but not used for training.",
            "Add the columns latitude and longitude, or landmark, to the table; use photos with GPS; or name folders"
            " after what they show, with download.photos.label: folder.",
            len(unlabelled),
            first(Example((seen.ids[row],), "", seen.paths_of(row)[:1]) for row in unlabelled),
            needs_look=len(unlabelled) == len(seen.ids),
        )
    ]


def _counts(seen: Survey, landmarks: int) -> dict[str, int]:
    numbers = {
        "records": len(seen.ids),
        "pictures": len(seen.views.record),
        "with coordinates": len(seen.ids) - seen.records["latitude"].null_count,
        "with a landmark": sum(label is not None for label in seen.labels),
        "landmarks": landmarks,
        "groups": len(set(seen.groups)),
    }
    return {name: number for name, number in numbers.items() if number or name != "landmarks"}


def _orientations(seen: Survey) -> dict[str, int]:
    counts: dict[str, int] = dimension_figures(seen.records)["orientations"]
    return {name: count for name, count in counts.items() if count and name != "unknown"}


def _settings(rules: Rules, region: str | None) -> dict[str, str]:
    given = {
        "region": region,
        "shore_km": f"{rules.shore_km:g}" if region else None,
        "min_images": rules.min_images,
        "max_images": rules.max_images,
        "largest": rules.largest,
        "exclude": len(rules.exclude) or None,
    }
    return {name: str(value) for name, value in given.items() if value is not None}

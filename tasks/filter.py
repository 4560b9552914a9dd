"""Keep the records that are worth learning from, and list each other one with its reason."""

import hashlib
import logging
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass

from tasks.common.geography import Region
from tasks.common.outputs import whole_folder, write_json
from tasks.common.stage import STRICT, Stage
from waymark.data.census import dimension_figures, landmark_figures
from waymark.data.filters import Dropped, Rules, count_reasons, select
from waymark.data.records import landmarks_table, read_records, write_table
from waymark.errors import SourceError
from waymark.geo.regions import load_region
from waymark.images.tars import read_bytes

logger = logging.getLogger(__name__)

RAW = Path("data/raw")
FILTERED = Path("data/filtered")
DROPPED_SCHEMA = pa.schema([("record_id", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Filter(Rules):
    """Section `filter` of params.yaml, and `region`.

    Args:
        region: country code or vector file that records must lie in; null takes every place.
    """

    region: Region | None


STAGE = Stage("filter", Filter, shared=("region",))


def filter_records(settings: Filter) -> None:
    """Keep the records that are worth learning from, and list each other one with its reason."""
    records = read_records(RAW / "records.parquet")
    region = None if settings.region is None else load_region(settings.region)
    kept, dropped = select(records, settings, region, _digests)
    if not kept.num_rows:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in count_reasons(dropped).most_common(3))
        raise SourceError(f"no record is left of {records.num_rows} ({reasons}); relax filter or region in params.yaml")
    _write(records, kept, dropped)
    logger.info("%d of %d records stay", kept.num_rows, records.num_rows)


def _digests(records: pa.Table) -> dict[str, str]:
    paths = [view["path"] for views in records["views"].to_pylist() for view in views]
    digests = {}
    for path in paths:
        with suppress(FileNotFoundError):
            digests[path] = hashlib.sha256(read_bytes(RAW, path)).hexdigest()
    return digests


def _write(records: pa.Table, kept: pa.Table, dropped: Dropped) -> None:
    rows = [{"record_id": record_id, "reason": dropped[record_id]} for record_id in sorted(dropped)]
    names = pq.read_table(RAW / "landmarks.parquet").to_pylist()
    landmarks = landmarks_table(kept, {row["landmark"]: row["name"] for row in names})
    report = {
        "records": records.num_rows,
        "kept": kept.num_rows,
        "with_coordinates": kept.num_rows - kept["latitude"].null_count,
        "with_landmark": int(pc.sum(pc.greater(pc.list_value_length(kept["landmarks"]), 0)).as_py()),
        "landmarks": landmarks.num_rows,
        "dropped": dict(sorted(count_reasons(dropped).items())),
        **landmark_figures(landmarks),
        **dimension_figures(kept),
    }
    with whole_folder(FILTERED) as folder:
        write_table(kept, folder / "records.parquet")
        write_table(pa.Table.from_pylist(rows, DROPPED_SCHEMA), folder / "dropped.parquet")
        write_table(landmarks, folder / "landmarks.parquet")
        write_json(report, folder / "report.json")


if __name__ == "__main__":
    STAGE.main(filter_records)

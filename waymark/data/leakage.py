"""What val and test share with training: places, groups and pictures that make a test too easy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.data.duplicates import Copies, Looks, copies_between
from waymark.geo.sphere import nearest_km
from waymark.metrics.nearness import nearness_quantiles

HELD_OUT = ("val", "test")
NEAR_M = (10, 100, 1000)
EXAMPLES = 20

# Above these shares of a split the audit calls it a leak.
NEAR_SHARE = 0.1  # of records within 100 m of a training place
COPY_SHARE = 0.01  # of records that show a picture of training

OK, WATCH, LEAK = "ok", "watch", "leak"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `ok`, `watch` or `leak`, what was found, and what to do about it."""

    verdict: str
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Leakage:
    """What val and test share with training.

    Attributes:
        splits: figures by split: `records`, `places`, `nearest_train_km` (quantiles), `within_10m`, `_100m`,
            `_1000m` (shares of places), `same_place` (records with coordinates of training), `grouped` (records with
            a group), `shared_groups` (of those that another split holds, too), `in_shared_groups` (records),
            `near_duplicates` (records that look like one of training, see `waymark.data.duplicates`), `training_copies`
            (training records that look like them), `pictures`, `flat_pictures` (not compared).
        copies: the first near-duplicates: `record_id`, `split`, `train_record_id`, `bits` that the hashes differ in.
        findings: what it means.
    """

    splits: dict[str, dict[str, Any]]
    copies: list[dict[str, Any]]
    findings: list[Finding]

    @property
    def verdict(self) -> str:
        """The worst of the findings."""
        return max((finding.verdict for finding in self.findings), key=(OK, WATCH, LEAK).index, default=OK)

    def document(self) -> dict[str, Any]:
        """Convert the audit to JSON."""
        return {"verdict": self.verdict, **asdict(self)}


def audit(records: pd.DataFrame, looks: Looks) -> Leakage:
    """Look for what val and test share with training.

    Args:
        records: columns `record_id`, `split`, `latitude`, `longitude` (degrees or null), `group` (or null).
        looks: how the records look, in the same order.
    """
    split = records["split"].to_numpy()
    rows = {name: np.flatnonzero(split == name) for name in ("train", *HELD_OUT)}
    copies = {name: copies_between(looks, rows[name], rows["train"]) for name in HELD_OUT}
    splits = {
        name: {
            **_of_places(records.iloc[rows[name]], records.iloc[rows["train"]]),
            **_of_groups(records, name),
            "near_duplicates": len(copies[name].nearest.left),
            "training_copies": int(copies[name].copied.sum()),
            "pictures": int(looks.seen[rows[name]].sum()),
            "flat_pictures": int((looks.seen & ~looks.telling)[rows[name]].sum()),
        }
        for name in HELD_OUT
    }
    return Leakage(splits, _examples(records, copies), _findings(splits))


def _examples(records: pd.DataFrame, copies: Mapping[str, Copies]) -> list[dict[str, Any]]:
    """Name the first near-duplicates, the most alike first."""
    ids = records["record_id"].to_numpy()
    found = [
        {"record_id": ids[left], "split": name, "train_record_id": ids[right], "bits": int(bits)}
        for name, pairs in copies.items()
        for left, right, bits in zip(*pairs.nearest, strict=True)
    ]
    return sorted(found, key=lambda pair: (pair["bits"], pair["record_id"]))[:EXAMPLES]


def _known(lat_lon: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(lat_lon).all(axis=1))


def _degrees(records: pd.DataFrame) -> NDArray[np.float64]:
    return records[["latitude", "longitude"]].to_numpy(dtype=np.float64)


def _of_places(records: pd.DataFrame, train: pd.DataFrame) -> dict[str, Any]:
    distance_km = nearest_km(_degrees(records), _degrees(train))
    places = distance_km[np.isfinite(distance_km)]
    taken = set(map(tuple, _degrees(train)[_known(_degrees(train))]))
    return {
        "records": len(records),
        "places": len(places),
        "nearest_train_km": nearness_quantiles(pd.Series(places)),
        **{f"within_{m}m": float((places * 1000 <= m).mean()) if len(places) else None for m in NEAR_M},
        "same_place": sum(tuple(place) in taken for place in _degrees(records)[_known(_degrees(records))]),
    }


def _of_groups(records: pd.DataFrame, split: str) -> dict[str, Any]:
    groups = records.loc[records["split"] == split, "group"].dropna()
    others = records.loc[records["split"].isin({"train", *HELD_OUT} - {split}), "group"].dropna()
    shared = groups[groups.isin(others)]
    return {"grouped": len(groups), "shared_groups": int(shared.nunique()), "in_shared_groups": len(shared)}


def _findings(splits: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    return [_on_groups(splits), _on_copies(splits), _on_same_places(splits), _on_nearness(splits)]


def _on_groups(splits: Mapping[str, Mapping[str, Any]]) -> Finding:
    shared = {split: figures["in_shared_groups"] for split, figures in splits.items()}
    if not any(figures["grouped"] for figures in splits.values()):
        return Finding(
            OK,
            "No held-out record names a group, so that none can be shared.",
            "If several records come from one panorama, sequence or author, let the source name their group.",
        )
    if any(shared.values()):
        return Finding(
            LEAK,
            f"Groups are split apart: {_counts(shared)} belong to a group that another split holds, too"
            f" ({_each(splits, 'shared_groups')} groups).",
            "Use split.by: hash, stratified or blocks, which never split a group apart.",
        )
    return Finding(OK, "No group is split apart.")


def _on_copies(splits: Mapping[str, Mapping[str, Any]]) -> Finding:
    copies = {split: figures["near_duplicates"] for split, figures in splits.items()}
    if not any(copies.values()):
        return Finding(OK, "No held-out record looks like one of training.")
    much = any(copies[split] > COPY_SHARE * figures["records"] for split, figures in splits.items())
    return Finding(
        LEAK if much else WATCH,
        f"Near-duplicates stand on both sides: {_counts(copies)} look like one of training"
        f" ({_each(splits, 'training_copies')} training records).",
        "Look at the pairs; give records of one scene the same group, or let the training copies yield"
        " (split.duplicates: yield).",
    )


def _on_same_places(splits: Mapping[str, Mapping[str, Any]]) -> Finding:
    same = {split: figures["same_place"] for split, figures in splits.items()}
    if not any(same.values()):
        return Finding(OK, "No held-out record has exactly the coordinates of a training record.")
    much = any(same[split] > COPY_SHARE * figures["records"] for split, figures in splits.items())
    return Finding(
        LEAK if much else WATCH,
        f"Exactly the same coordinates stand on both sides: {_counts(same)}.",
        "Give records of one place the same group, or use split.by: blocks.",
    )


def _on_nearness(splits: Mapping[str, Mapping[str, Any]]) -> Finding:
    near = {split: figures["within_100m"] for split, figures in splits.items() if figures["within_100m"] is not None}
    if not near:
        return Finding(OK, "No held-out record has a place, so that none is near to training.")
    shares = " and ".join(f"{share:.1%} of {split}" for split, share in near.items())
    if max(near.values()) > NEAR_SHARE:
        return Finding(
            LEAK,
            f"{shares} lie within 100 m of a training place: such a test asks for memory.",
            "Use split.by: blocks, or add the model to the section gap and read what a block split says.",
        )
    return Finding(OK, f"{shares} lie within 100 m of a training place.")


def _counts(records: Mapping[str, int]) -> str:
    return " and ".join(
        f"{count:,} {split} {'record' if count == 1 else 'records'}" for split, count in records.items()
    )


def _each(splits: Mapping[str, Mapping[str, Any]], name: str) -> str:
    return " and ".join(f"{figures[name]:,}" for figures in splits.values())

"""What a challenger must show: a form for people, without anything that takes long to import."""

from dataclasses import dataclass, field
from typing import Any


def _about(description: str, **bounds: float) -> dict[str, Any]:
    """Say what a form shows beside a field, and what it takes."""
    return {"description": description, **bounds}


@dataclass(frozen=True)
class Gate:
    """What a challenger must show before it takes the champion's place."""

    least_records: int = field(
        default=50,
        metadata=_about(
            "Records that both models must be scored on at least: of places those with coordinates, of landmarks"
            " those that show one.",
            ge=2,
        ),
    )
    confidence: float = field(
        default=0.95,
        metadata=_about("Share of the bootstrap resamples between the ends of an interval.", gt=0, lt=1),
    )
    resamples: int = field(default=1000, metadata=_about("Bootstrap resamples.", ge=100))
    seed: int = field(default=1, metadata=_about("Seed of the resamples."))
    margin: float = field(
        default=0.0,
        metadata=_about(
            "How much better the challenger must be, as a share of the champion's mean error or GAP: 0.02 for 2 %.",
            ge=0,
        ),
    )
    largest_slice_loss: float = field(
        default=0.25,
        metadata=_about(
            "How much worse it may be in any region or class group, as a share of the champion's figure there, where"
            " that is more than chance.",
            ge=0,
        ),
    )
    least_slice: int = field(
        default=10, metadata=_about("Records of a region or class group below which it is not judged.", ge=2)
    )
    latency_s: float = field(
        default=2.0, metadata=_about("Longest time in seconds that the challenger may take for a record.", gt=0)
    )

"""The metrics of the field: pure functions and their stateful twins."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waymark.metrics.functional import geoscore, global_average_precision, haversine_km, within_km
    from waymark.metrics.stateful import GlobalAveragePrecision, MeanGeoscore, MeanHaversine

TWINS = ("GlobalAveragePrecision", "MeanGeoscore", "MeanHaversine")
__all__ = [
    "GlobalAveragePrecision",
    "MeanGeoscore",
    "MeanHaversine",
    "geoscore",
    "global_average_precision",
    "haversine_km",
    "within_km",
]


def __getattr__(name: str) -> Any:
    """Import what is used: torchmetrics, which the twins need, takes seconds."""
    if name in __all__:
        home = "stateful" if name in TWINS else "functional"
        return getattr(import_module(f"waymark.metrics.{home}"), name)
    raise AttributeError(name)

"""The metrics of the field: pure functions and their stateful twins."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from waymark.metrics.functional import geoscore, global_average_precision, haversine_km, within_km

if TYPE_CHECKING:
    from waymark.metrics.stateful import GlobalAveragePrecision, MeanGeoscore, MeanHaversine

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
    """Import the twins only where they are used: torchmetrics takes seconds."""
    if name in __all__:
        return getattr(import_module("waymark.metrics.stateful"), name)
    raise AttributeError(name)

"""The metrics of the field: pure functions and their stateful twins."""

from waymark.metrics.functional import geoscore, haversine_km, within_km
from waymark.metrics.stateful import MeanGeoscore, MeanHaversine

__all__ = ["MeanGeoscore", "MeanHaversine", "geoscore", "haversine_km", "within_km"]

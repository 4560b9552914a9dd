"""How far the figures would move with other records: bootstrap intervals."""

from waymark.metrics.intervals.landmarks import landmark_intervals, paired_gap, weighted_gap
from waymark.metrics.intervals.pairs import paired_difference, ratio_of_means
from waymark.metrics.intervals.places import place_intervals
from waymark.metrics.intervals.resampling import (
    CONFIDENCE,
    METHOD,
    RESAMPLES,
    SEED,
    Interval,
    Intervals,
    statistic_interval,
    weighted_quantile,
)

__all__ = [
    "CONFIDENCE",
    "METHOD",
    "RESAMPLES",
    "SEED",
    "Interval",
    "Intervals",
    "landmark_intervals",
    "paired_difference",
    "paired_gap",
    "place_intervals",
    "ratio_of_means",
    "statistic_interval",
    "weighted_gap",
    "weighted_quantile",
]

"""Sources of records: each turns what somebody has into one table and its pictures.

Import a new one here, and it can be chosen: `download.source` is its name, `download.NAME` are its options.
"""

from waymark.sources.adapter import Fetched, Source, SourceOptions, known_sources
from waymark.sources.gldv2.source import Gldv2, Gldv2Source
from waymark.sources.photos import Photos, PhotosSource
from waymark.sources.quads import Quads, QuadsSource
from waymark.sources.synthetic import Synthetic, SyntheticSource
from waymark.sources.table import TableOptions, TableSource

__all__ = [
    "Fetched",
    "Gldv2",
    "Gldv2Source",
    "Photos",
    "PhotosSource",
    "Quads",
    "QuadsSource",
    "Source",
    "SourceOptions",
    "Synthetic",
    "SyntheticSource",
    "TableOptions",
    "TableSource",
    "known_sources",
]

"""Sources of records: each turns what somebody has into one table and its pictures."""

from waymark.sources.adapter import Fetched, Source
from waymark.sources.gldv2.source import Gldv2Source
from waymark.sources.photos import PhotosSource
from waymark.sources.quads import QuadsSource
from waymark.sources.synthetic import SyntheticSource
from waymark.sources.table import TableSource

__all__ = ["Fetched", "Gldv2Source", "PhotosSource", "QuadsSource", "Source", "SyntheticSource", "TableSource"]

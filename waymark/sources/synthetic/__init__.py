"""The bundled source: made-up pictures of places in Croatia and of made-up landmarks."""

from waymark.sources.synthetic.source import Synthetic, SyntheticSource

__all__ = ["Synthetic", "SyntheticSource"]

"""The doctor for a source: what is wrong with records and pictures, before any training."""

from waymark.check.command import Check, check

__all__ = ["Check", "check"]

"""Check a source before training: faults of records and pictures, with remedies."""

from waymark.check.command import Check, check

__all__ = ["Check", "check"]

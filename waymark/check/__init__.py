"""Check a source before training: faults of records and pictures, with remedies."""

from waymark.check.command import check
from waymark.check.findings import Check

__all__ = ["Check", "check"]

"""Nightly runs: a checkout of their own, and what they report."""

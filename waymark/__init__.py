"""Waymark learns where a photo was taken and which landmark it shows."""

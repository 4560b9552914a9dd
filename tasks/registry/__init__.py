"""Runs, versions, aliases and promotion in MLflow."""

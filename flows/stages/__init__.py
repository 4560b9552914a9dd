"""DVC's graph: what is in it, what would run and why, and one stage at a time."""

"""Options that people set: their bounds, and alternatives that are told apart by a name."""

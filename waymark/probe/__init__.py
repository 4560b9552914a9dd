"""Which frozen features and which head suit somebody's own pictures, found out in minutes."""

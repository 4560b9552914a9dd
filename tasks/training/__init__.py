"""What the stages of a model share: its entry in params.yaml, its examples, its answers."""

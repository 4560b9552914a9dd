"""What one step does: one module for each stage of dvc.yaml."""

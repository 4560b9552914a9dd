"""What one step does: one module for each stage of dvc.yaml."""

import tasks.common.provenance  # noqa: F401  # before the rest: it takes down the code as it is when it is imported

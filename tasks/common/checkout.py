"""Where the user's checkout is, and what its experiments and nights share with it."""

import os

from waymark.system.checkout import NIGHT, checkout

__all__ = ["NIGHT", "checkout", "share_caches"]


def share_caches() -> None:
    """Keep the weights that torch downloads in the checkout, unless the environment says where else."""
    os.environ.setdefault("TORCH_HOME", str(checkout() / ".cache" / "torch"))

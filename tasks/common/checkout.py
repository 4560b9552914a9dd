"""Where the user's checkout is, also from inside an experiment or a night."""

import os
from pathlib import Path

EXPERIMENTS = (".dvc", "tmp", "exps")  # where `dvc exp run --queue` makes a folder for each, and removes it afterwards
NIGHT = (".nights", "checkout")  # where the nightly flow works


def checkout() -> Path:
    """Give the root of the checkout; of an experiment or a night, of the one in which it lies.

    What is to outlive the experiment, such as its runs in MLflow, or is not to be fetched anew for
    each, such as weights, lies there.
    """
    here = Path.cwd()
    for folder in (here, *here.parents)[::-1]:  # an experiment may lie inside a night
        if folder.parts[-2:] == NIGHT:
            return folder.parents[1]
        if folder.parts[-3:] == EXPERIMENTS and folder != here:
            return folder.parents[2]
    return here


def share_caches() -> None:
    """Keep the weights that torch downloads in the checkout, unless the environment says where else."""
    os.environ.setdefault("TORCH_HOME", str(checkout() / ".cache" / "torch"))

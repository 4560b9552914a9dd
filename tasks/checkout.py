"""Where the user's checkout is, also from inside an experiment."""

from pathlib import Path

EXPERIMENTS = (".dvc", "tmp", "exps")  # where `dvc exp run --queue` makes a folder for each, and removes it afterwards


def checkout() -> Path:
    """Give the root of the checkout; of an experiment from DVC's queue, of the one that queued it.

    What is to outlive the experiment, such as its runs in MLflow, or is not to be fetched anew for
    each, such as weights, lies there.
    """
    here = Path.cwd()
    above = (folder.parents[2] for folder in here.parents if folder.parts[-3:] == EXPERIMENTS)
    return next(above, here)

"""Estimate how much of Google Landmarks `download.gldv2` means, before any picture is downloaded."""

import argparse
import dataclasses
import logging
import shutil
import sys

from tasks import download
from tasks.common.stage import load_params, one_line, only_writer
from waymark.errors import WaymarkError
from waymark.system.terminal import log_to


def preflight() -> None:
    """Print how many images, landmarks, tars and GB the choice of params.yaml means."""
    settings = dataclasses.replace(download.STAGE.read(load_params()), source="gldv2")
    with only_writer(download.STAGE.name):
        estimate = download.choose_source(settings).preview()
    free_gb = shutil.disk_usage(".").free / 1e9
    print(f"{estimate}; {free_gb:,.1f} GB are free here")


def main() -> None:
    """Run as a command: exit 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m tasks.reporting.preflight", description=preflight.__doc__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    log_to(None, logging.WARNING)
    try:
        preflight()
    except WaymarkError as error:
        if arguments.debug:
            raise
        sys.exit(f"preflight: {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

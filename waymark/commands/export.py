"""`waymark export`: a model as one file for machines that have nothing but `pip install waymark`."""

from pathlib import Path

from waymark.commands.terminal import say, whole_file
from waymark.errors import ModelError
from waymark.exported import export_model, is_exported
from waymark.lookup import model_files
from waymark.models.guesser import load_guesser


def export_to(file: Path, reference: str | None) -> None:
    """Write a model as one file, after it was loaded once.

    Raises:
        ModelError: there is no such model, or the file exists and is none.
    """
    check_destination(file)
    with model_files(reference) as files:
        load_guesser(files.checkpoint, files.calibration)  # raises where it could not answer
        with whole_file(file) as path:
            manifest = export_model(files, path)
    megabytes = file.stat().st_size / 1e6
    say(f"{files.name} is in {file} ({megabytes:.1f} MB, sha256 {manifest['digest'][:12]})")
    say(f"try it with: waymark guess --model {file} IMAGE")


def check_destination(file: Path) -> None:
    """Refuse to write over anything but an exported model.

    Raises:
        ModelError: the file exists and is none.
    """
    if file.is_dir() or (file.exists() and not is_exported(file)):
        raise ModelError(f"{file} exists and is no exported model; give another name")

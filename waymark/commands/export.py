"""`waymark export`: a model as one file for machines with nothing but `pip install waymark`."""

from pathlib import Path

from waymark.commands.terminal import say
from waymark.inference.bundle import export_model
from waymark.inference.lookup import model_files
from waymark.inference.predictor import load_predictor
from waymark.system.files import whole_file


def export_to(file: Path, reference: str | None) -> None:
    """Write a model as one file, after loading it once.

    Raises:
        ModelError: there is no such model.
    """
    with model_files(reference) as files:
        load_predictor(files.checkpoint, files.calibration)  # raises if it could not answer
        with whole_file(file) as path:
            manifest = export_model(files, path)
    megabytes = file.stat().st_size / 1e6
    say(f"{files.name} is in {file} ({megabytes:.1f} MB, sha256 {manifest.digest[:12]})")
    say(f"try it with: waymark guess --model {file} IMAGE")

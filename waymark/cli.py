"""The `waymark` command and its options; `waymark.commands` does the work.

Nothing heavy is imported before the arguments of a command have been checked, so that `--help` and errors are
immediate.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from waymark.commands.arguments import (
    Outputs,
    check_export,
    check_files,
    check_guess,
    check_models,
    check_predict,
    check_source,
    check_teach,
)
from waymark.commands.terminal import numbers, one_line_errors, show

app = typer.Typer(
    help="Find out where a photo was taken and which landmark it shows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
recipes = typer.Typer(help="Complete params files of real systems.", no_args_is_help=True)
app.add_typer(recipes, name="recipe")

MODEL = (
    "An exported file, a checkpoint or its folder (trained/cells), or a version in the registry: champion (of places),"
    " 3, waymark-landmark@champion."
)
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help=f"{MODEL} By default the champion of places, or the best on val if there is no registry.",
    ),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help=f"{MODEL} Use it twice for a model for places and one for landmarks. By default both champions,"
        " or the best on val if there is no registry.",
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Layout(StrEnum):
    """How a folder of pictures is read."""

    auto = "auto"
    quads = "quads"
    photos = "photos"


class Label(StrEnum):
    """Whether the name of a photo's folder is its landmark."""

    folder = "folder"
    none = "none"


class Fit(StrEnum):
    """How pictures become square."""

    crop = "crop"
    stretch = "stretch"


@app.command()
def guess(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="A photo, or several views of one place.")],
    model: ModelsOption = None,
    headings: Annotated[
        str | None,
        typer.Option(
            metavar="DEG,DEG,...",
            help="Heading of each view. By default taken from the file names, such as 90.jpg.",
        ),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Treat each image as a separate photo.")] = False,
    as_json: JsonOption = False,
    geojson: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write place, radii and cells as GeoJSON; - for stdout.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with a map of the probability over cells.")
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the picture with the answer on it, and next to it the attention map if there is one.",
        ),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Find out where a photo was taken, with which uncertainty, and which landmark it shows.

    Several images are views of one place; with --each they are separate photos.
    """
    with one_line_errors(debug):
        out = Outputs(as_json, geojson, html, draw)
        check_guess(images, model or (), headings, out, each=each)
        from waymark.commands.guess import guess_images

        guess_images(images, model or (), headings, each, out)


@app.command()
def predict(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Photos in any tree of folders, or places as folders <uuid>/{0,90,180,270}.jpg at any depth.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="CSV to write.")],
    model: ModelsOption = None,
    layout: Annotated[Layout, typer.Option(help="How the folder is read.")] = Layout.auto,
    top_k: Annotated[
        int,
        typer.Option(min=0, max=100, metavar="K", help="Also write the K most probable places, each with its names."),
    ] = 0,
    debug: DebugOption = False,
) -> None:
    """Predict place and landmark of each picture in a folder, as CSV.

    The columns are uuid (the name of a place's folder, or the path of a photo), latitude, longitude,
    radius_50_km, radius_90_km, cell, probability, landmark, landmark_name (both empty for no landmark),
    landmark_score (unbounded), landmark_confidence (0 to 1, the probability that it is right),
    best_landmark (the candidate of both, even if it was rejected) and views.
    With --top-k there are also candidate_1_latitude, _longitude, _probability (empty for models without cells),
    _place (such as "32 km north of Knin"), _region and _country, and so on for each candidate, the best first.
    Pictures that cannot be decoded are listed on stderr.
    """
    with one_line_errors(debug):
        check_predict(folder, out, model or ())
        from waymark.commands.predict import predict_folder

        predict_folder(folder, out, model or (), layout.value, top_k)


@app.command()
def score(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="CSV or Parquet with an id and predictions.")
    ],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="CSV or Parquet with the same ids and the truth.")],
    split: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Use only the rows of the truth with this value in the column split."),
    ] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Allow truths without a prediction.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compute the metrics of predicted places and landmarks.

    Prints mean, median, shares within distances and GeoScore for places, and queries, GAP, top-1, the share of answers
    and their precision for landmarks, each with a 95 % bootstrap interval.

    Rows are joined on uuid, record_id, id or path, else on the first column. Places are latitude and longitude, or in
    predictions of `evaluate` predicted_latitude and predicted_longitude. The true landmark is in landmark, or
    several in landmarks, separated by spaces; predictions are landmark, landmark_score and best_landmark, which
    counts for top-1 even if it was rejected. A row without a landmark is a picture that shows none.
    """
    with one_line_errors(debug):
        check_files([predictions, truth])
        from waymark.commands.score import score_files

        score_files(predictions, truth, split, allow_missing=allow_missing, as_json=as_json)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, such as croatia.waymark.")],
    model: ModelOption = None,
    debug: DebugOption = False,
) -> None:
    """Write a model as one file.

    To use it, `pip install waymark` is enough: no DVC, Prefect or MLflow.
    """
    with one_line_errors(debug):
        check_export(file)
        check_models([] if model is None else [model])
        from waymark.commands.export import export_to

        export_to(file, model)


@app.command()
def teach(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Readable name of the landmark.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Pictures of it; use three or more.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Exported file to write.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="MODEL", help=f"{MODEL} By default the champion of landmarks, or the best on val."
        ),
    ] = None,
    landmark: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id of the landmark; by default its name.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Add a landmark to a model from a few pictures, without training.

    The pictures are added to the index that the model compares with. The result is a new file.
    """
    with one_line_errors(debug):
        check_teach(name, images, model, out, landmark)
        from waymark.commands.teach import teach_landmark

        teach_landmark(name, images, model, out, landmark)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of photos or quadruplets, table, or data/raw.")],
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="photos, quads, table or raw; detected by default.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Page to write.")] = Path("check.html"),
    region: Annotated[
        str | None, typer.Option(metavar="CODE", help="Country (HRV) or vector file that should contain the records.")
    ] = None,
    shore_km: Annotated[
        float, typer.Option(min=0, max=20_000, help="Largest distance of a record from the region.")
    ] = 5.0,
    min_images: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Landmarks with fewer pictures would be dropped.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Check pictures and coordinates before training.

    The exit status is 1 if something needs a look. The source is not changed.
    """
    with one_line_errors(debug):
        check_source(path, out)
        from waymark.check.command import check

        found = check(path, source=source, out=out, region=region, shore_km=shore_km, min_images=min_images)
        show(found.text())
    raise typer.Exit(found.status)


@app.command()
def probe(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SOURCE]", help="Folder of photos, or table; by default the data of the stages of this checkout."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="photos, quads, table or raw; detected by default.")
    ] = None,
    label: Annotated[
        Label | None,
        typer.Option(help="Whether a photo's folder is its landmark; by default if no photo has coordinates."),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option("--backbone", "-b", metavar="NAME", help="Model of timm; use it several times to compare."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="WEIGHTS", help="none, default, bundled or a path; by default bundled, else default."),
    ] = None,
    size_px: Annotated[
        int | None, typer.Option("--size", min=8, max=4096, metavar="PX", help="Side of the pictures; 224 by default.")
    ] = None,
    fit: Annotated[
        Fit | None, typer.Option(help="Whether the sides of wide pictures are cut off; by default they are not.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the model in the entry.")] = "probe",
    as_json: JsonOption = False,
    apply: Annotated[bool, typer.Option("--apply", help="Write the best entry into params.yaml.")] = False,
    debug: DebugOption = False,
) -> None:
    """Compare pretrained backbones and heads on your own pictures, in minutes and without training a network.

    Prints a table for places and one for landmarks, each with 90 % intervals, and the best as entries of params.yaml.
    If the source has a split, test is asked and the rest is learnt from; else groups are held out in five folds.
    """
    with one_line_errors(debug):
        if path is not None and not path.is_dir():
            check_files([path])
        from waymark.commands.probe import probe

        probe(
            path,
            source=source,
            label=None if label is None else label.value,
            backbones=backbone or (),
            weights=weights,
            size_px=size_px,
            fit=None if fit is None else fit.value,
            name=name,
            as_json=as_json,
            into_params=apply,
        )


@app.command()
def grid(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="CSV or Parquet with latitude and longitude.")
    ] = Path("data/filtered/records.parquet"),
    spacings_km: Annotated[
        str, typer.Option("--spacings", metavar="KM,KM,...", help="Sides of squares.")
    ] = "10,20,40,80",
    min_records: Annotated[
        str, typer.Option("--quadtree", metavar="N,N,...", help="Smallest number of records in a cell of a quadtree.")
    ] = "10,20,40",
    region: Annotated[
        str | None, typer.Option(metavar="CODE", help="Country (HRV) or vector file; by default the records' extent.")
    ] = None,
    crs: Annotated[str, typer.Option(metavar="CRS", help="Metric CRS of the cells, such as EPSG:3765.")] = "auto",
    split: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="data/split/records.parquet: build grids from train, measure on val; "
            "the default for the checkout's own records.",
        ),
    ] = None,
    enough: Annotated[int, typer.Option(metavar="N", help="Images that a cell should have.")] = 10,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with a map of each grid.")] = None,
    debug: DebugOption = False,
) -> None:
    """Compare grids of several spacings before training.

    Prints for each the number of cells, the images in them, and the error if the right cell were always found.
    """
    with one_line_errors(debug):
        from waymark.commands.grid import grid_preview

        grid_preview(
            records,
            region=region,
            crs=crs,
            spacings_km=numbers(spacings_km, "--spacings"),
            min_records=[int(least) for least in numbers(min_records, "--quadtree")],
            enough=enough,
            split=split,
            out=html,
        )


@recipes.command("list")
def list_recipes(debug: DebugOption = False) -> None:
    """List the recipes."""
    with one_line_errors(debug):
        from waymark.commands.recipe import list_recipes

        list_recipes()


@recipes.command("show")
def show_recipe(name: Annotated[str, typer.Argument(metavar="NAME")], debug: DebugOption = False) -> None:
    """Print a recipe."""
    with one_line_errors(debug):
        from waymark.commands.recipe import show_recipe

        show_recipe(name)


@recipes.command("use")
def use_recipe(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    path: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Your folder or table to train on.")] = None,
    debug: DebugOption = False,
) -> None:
    """Replace params.yaml by a recipe.

    The present one is kept as params.yaml.before, unless it is itself a recipe; changes are printed.
    """
    with one_line_errors(debug):
        from waymark.commands.recipe import use_recipe

        use_recipe(name, path)


def main() -> None:
    """Run the command."""
    app(prog_name="waymark")

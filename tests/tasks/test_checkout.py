import pytest

from tasks.registry.store import tracking_uri
from waymark.inference.references import registry_uri
from waymark.system.checkout import checkout


@pytest.mark.parametrize(
    "inside",
    [
        "",
        ".dvc/tmp/exps/tmp5x",
        ".dvc/tmp/exps/standalone/tmp5x",
        ".nights/checkout",
        ".nights/checkout/data",
        ".nights/checkout/.dvc/tmp/exps/tmp5x",
    ],
)
def test_an_experiment_or_a_night_belongs_to_the_checkout_that_began_it(tmp_path, monkeypatch, inside):
    folder = tmp_path / "checkout" / inside
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert checkout() == tmp_path / "checkout"


def test_a_checkout_that_happens_to_lie_below_other_folders_is_itself(tmp_path, monkeypatch):
    folder = tmp_path / "exps" / "tmp" / "checkout"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert checkout() == folder


@pytest.mark.parametrize("inside", ["", "docs", "docs/pictures", ".nights/checkout", ".dvc/tmp/exps/tmp5x/trained"])
def test_trainings_and_the_command_line_look_into_the_same_store_from_everywhere(tmp_path, monkeypatch, inside):
    """A copy that dvc.yaml lies in is no checkout of its own where a night or an experiment made it."""
    root = tmp_path / "checkout"
    folder = root / inside
    folder.mkdir(parents=True)
    for copy in {root, folder}:
        if copy == root or inside.startswith("."):
            (copy / "dvc.yaml").touch()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert registry_uri() is None
    assert tracking_uri() == f"sqlite:///{root}/mlflow.db"
    (root / "mlflow.db").touch()
    assert registry_uri() == tracking_uri() == f"sqlite:///{root}/mlflow.db"


def test_a_folder_with_a_store_and_no_workflow_is_one_too(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert registry_uri() == f"sqlite:///{tmp_path}/mlflow.db"

import pytest

from tasks.common.checkout import checkout


@pytest.mark.parametrize(
    "inside",
    [
        "",
        ".dvc/tmp/exps/tmp5x",
        ".dvc/tmp/exps/standalone/tmp5x",
        ".nights/checkout",
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

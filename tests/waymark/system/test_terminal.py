import logging
import unicodedata
from itertools import chain

import pytest
from tiny_model import make_tiny_model, write_picture
from typer.testing import CliRunner

from tasks.common.stage import one_line as stage_line
from waymark.cli import app
from waymark.errors import ModelError
from waymark.inference.bundle import ModelFiles, export_model
from waymark.system.terminal import JOINERS, PrintableFormatter, one_line, printable, printable_lines

HOSTILE = "Tower\x1b[31m\x1b]0;title\x07\x9b2J\u202eevil\u2066\u2028\x7f"


def obeyed(text):
    """Characters that move a cursor, colour, ring or turn text; a new line is one, too."""
    return [its for its in text if unicodedata.category(its) in ("Cc", "Cf", "Cs", "Zl", "Zp") and its not in JOINERS]


def test_no_character_that_a_terminal_obeys_is_left_and_every_other_one_is():
    everything = "".join(map(chr, chain(range(0xD800), range(0xE000, 0x110000))))
    shown = printable(everything)
    assert obeyed(shown) == []
    kept = [its for its in everything if its in JOINERS or not obeyed(its)]
    assert [its for its in shown if ord(its) > 127] == [its for its in kept if ord(its) > 127]
    assert printable("\udcff") == r"\udcff"
    assert printable(shown) == shown


def test_lines_stay_lines_and_a_message_is_one():
    assert printable_lines("a\x1b\nb\r") == "a\\x1b\nb\\r"
    assert one_line(ModelError("a\n b\x1b[2J")) == r"a b\x1b[2J"
    assert stage_line(ModelError(HOSTILE)) == one_line(HOSTILE)
    assert stage_line(FileNotFoundError(2, "missing", HOSTILE)).startswith(one_line(HOSTILE))


def test_messages_of_a_log_are_printable():
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "%s was\nseen", (HOSTILE,), None)
    assert PrintableFormatter("%(message)s").format(record) == f"{printable(HOSTILE)} was\nseen"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal")
    tiny = make_tiny_model(folder / "trained", slots=(None,), head=None, landmark="arcface")
    export_model(ModelFiles(HOSTILE, tiny.checkpoint, tiny.calibration), folder / "a.waymark")
    write_picture(folder / f"{HOSTILE}.png", 3)
    (folder / f"broken{HOSTILE}.jpg").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["guess", f"{HOSTILE}.png", "-m", "a.waymark"],
        ["guess", f"{HOSTILE}.png", f"broken{HOSTILE}.jpg", "--each", "-m", "a.waymark"],
        ["guess", f"{HOSTILE}.png", "-m", "a.waymark", "--json"],
        ["guess", f"{HOSTILE}.png", "-m", HOSTILE],
        ["predict", ".", "-o", "out.csv", "-m", "a.waymark"],
        ["export", "b.waymark", "-m", "a.waymark"],
        ["teach", "Toranj", f"{HOSTILE}.png", "-o", "c.waymark", "-m", "a.waymark"],
        ["teach", HOSTILE, f"{HOSTILE}.png", "-o", "d.waymark", "-m", "a.waymark"],
        ["score", f"{HOSTILE}.csv", "truth.csv"],
        ["check", HOSTILE],
    ],
)
def test_no_command_lets_foreign_text_through(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = CliRunner().invoke(app, command)
    assert obeyed((result.stdout + result.stderr).replace("\n", "")) == []
    assert r"\x1b[31m" in result.stdout + result.stderr or "\\u001b[31m" in result.stdout

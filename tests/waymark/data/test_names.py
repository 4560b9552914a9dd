import unicodedata

import pytest

from waymark.data.names import one_form


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["Café", "Šibenik/đak ž.jpg", "東京", "가나", "plain", ""])
def test_a_name_is_one_however_it_is_written(name, form):
    assert one_form(unicodedata.normalize(form, name)) == name
    assert one_form(one_form(name)) == one_form(name)


@pytest.mark.parametrize("data", [b"caf\xe9", b"\xff\xfe", b"\xc3", "č".encode() + b"\x80x"])
def test_bytes_that_are_no_utf8_are_written_as_such(data):
    written = one_form(data.decode("utf-8", "surrogateescape"))
    assert written == data.decode("utf-8", "backslashreplace")
    written.encode()


def test_any_other_half_of_a_pair_can_be_written_too():
    assert one_form("a\ud800b") == "a\\ud800b"

"""Names in one form: what devices and people write in several ways is compared, counted and stored in one."""

import re
import unicodedata

SURROGATE = re.compile(r"[\ud800-\udfff]")


def one_form(text: str) -> str:
    r"""Write a name in Unicode's form NFC; a byte of a file name that is no UTF-8 becomes `\x..`.

    A Mac writes `é` as two characters (NFD), all others as one: without this, "Café" is two landmarks.

    >>> one_form("Cafe\u0301") == "Caf\u00e9"
    True
    >>> one_form(b"caf\xe9.jpg".decode("utf-8", "surrogateescape"))
    'caf\\xe9.jpg'
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", SURROGATE.sub(_escaped, text))


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"

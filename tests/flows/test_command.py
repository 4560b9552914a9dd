"""What may be a parameter of a flow, and what holds a password."""

from argparse import ArgumentTypeError

import pytest
from pydantic import TypeAdapter, ValidationError

from flows.command import Address, SecretName, address, secret_name

GOOD = (
    "/mnt/shared/waymark",
    "../remote",
    "/mnt/a@b",
    "s3://bucket/folder",
    "s3://bucket/a@b",
    "ssh://host/folder",
    "ssh://git@host:22/folder",
    "git@example.org:me/waymark.git",
    "https://example.org/waymark.git",
    "file:///mnt/waymark",
)
WITH_PASSWORD = (
    "https://me:secret@example.org/waymark.git",
    "https://secret@example.org/waymark.git",
    "ssh://me:secret@host/folder",
    "me:secret@example.org",
    "webdav://me:secret@host",
)


@pytest.mark.parametrize("text", GOOD)
def test_addresses_without_a_password_are_taken(text):
    assert address(text) == text
    assert TypeAdapter(Address).validate_python(text) == text


@pytest.mark.parametrize("text", WITH_PASSWORD)
def test_addresses_with_one_are_refused_without_repeating_it(text):
    with pytest.raises(ArgumentTypeError, match="holds a password or token; leave it out") as refused:
        address(text)
    assert "secret" not in str(refused.value)
    with pytest.raises(ValidationError):
        TypeAdapter(Address).validate_python(text)


@pytest.mark.parametrize("text", ["json://host", "slack://T/B/x", "mailtos://me:secret@host", "Ops", "", "a b", "-x"])
def test_a_url_is_no_name_of_a_secret(text):
    with pytest.raises(ArgumentTypeError, match="names a Secret of Prefect"):
        secret_name(text)
    with pytest.raises(ValidationError):
        TypeAdapter(SecretName).validate_python(text)
    assert secret_name("ops-1") == "ops-1"

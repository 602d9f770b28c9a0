"""Addresses of servers: read, or refused without what may be secret."""

import pytest

from stages.sampling.address import Address, is_address


@pytest.mark.parametrize(
    ("text", "base", "model"),
    [
        ("http://127.0.0.1:8000/v1#name", "http://127.0.0.1:8000/v1", "name"),
        ("https://a.example/api/v1/#org/Name-7B#x", "https://a.example/api/v1", "org/Name-7B#x"),
        ("http://[::1]:80#m", "http://[::1]:80", "m"),
    ],
)
def test_an_address_is_a_place_and_the_name_of_a_model(text: str, base: str, model: str) -> None:
    assert Address.parse(text) == Address(base, model) and is_address(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://127.0.0.1:8000/v1", "names no model; add one of those that http://127.0.0.1:8000/v1/models lists"),
        ("http://127.0.0.1:8000/v1/#", "that http://127.0.0.1:8000/v1/models lists"),
        ("ftp://host/v1#m", "'ftp://host/v1#m' is no address of a server; give one as http://127.0.0.1:8000/v1#name"),
        ("http:///v1#m", "is no address of a server"),
        (
            "http://user:secret@host/v1#m",
            "the address of the server host holds a password or a query; set RING_API_KEY",
        ),
        ("http://host/v1?key=secret#m", "holds a password or a query"),
        ("http://user:secret@host:port/v1#m", "cannot be read"),
    ],
)
def test_what_is_no_address_is_refused_without_a_secret(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Address.parse(text)
    assert message in str(caught.value) and "secret" not in str(caught.value)


def test_a_folder_is_no_address() -> None:
    assert not is_address("models/http") and not is_address("/a/b#c")

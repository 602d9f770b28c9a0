"""Which model of which server is meant, and the key that opens it."""

import os
from dataclasses import dataclass

import httpx

KEY_VARIABLES = ("RING_API_KEY", "OPENAI_API_KEY")  # the first that is set holds the key
EXAMPLE = "http://127.0.0.1:8000/v1#name"


@dataclass(frozen=True, slots=True)
class Address:
    """A model of a server."""

    base: str  # such as http://127.0.0.1:8000/v1
    model: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `http://127.0.0.1:8000/v1#name`. Raises ValueError for anything else; it does not repeat what may be secret."""
        base, _, model = text.partition("#")
        try:
            url = httpx.URL(base)
        except httpx.InvalidURL:
            raise ValueError(f"the address of the server cannot be read; give one as {EXAMPLE}") from None
        if url.userinfo or url.query:
            raise ValueError(
                f"the address of the server {url.host} holds a password or a query; set {KEY_VARIABLES[0]} to the key, and give the "
                f"address as {EXAMPLE}"
            )
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{text!r} is no address of a server; give one as {EXAMPLE}")
        if not model:
            raise ValueError(
                f"{text!r} names no model; add one of those that {base.rstrip('/')}/models lists, as in {EXAMPLE}"
            )
        return cls(base.rstrip("/"), model)


def is_address(text: str) -> bool:
    """Whether a text means a server, and no folder."""
    return "://" in text


def api_key() -> str | None:
    """The key in the environment, None where there is none. Raises ValueError, without it, for one that no header can hold."""
    name = next((one for one in KEY_VARIABLES if os.environ.get(one, "").strip()), None)
    if name is None:
        return None
    key = os.environ[name].strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(f"{name} holds characters that no key has (white space, or outside of ASCII); set it anew")
    return key

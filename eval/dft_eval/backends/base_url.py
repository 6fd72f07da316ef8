"""Check of a server's address."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_base_url(url: str) -> str:
    """An address without a secret in it, since settings are written down.

    Raises:
        ValueError: it is none, or holds one.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an http or https address is accepted, for example http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError("holds a user, a password or a query, which run.json would repeat; use api_key_env")
    return url

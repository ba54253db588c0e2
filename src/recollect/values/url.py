"""URLs as text: what may be shown of them."""

from __future__ import annotations

import re

HIDDEN = "***"

_SERVER_USERINFO = re.compile(r"((?:qdrants?|https?)://)\S*@", re.IGNORECASE)
_ANY_USERINFO = re.compile(r"(://)[^/?#\s]*@")
_PARAMETER = re.compile(r"([?&](?:api_?key|password|secret|token)=)[^&#\s'\"`]+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Return a text with what is secret in the URLs in it replaced by `***`.

    That is whatever stands before an `@` where a server's name belongs, and the values of parameters such as
    `api_key` (not `api_key_env`, which is the name of a secret). A URL of a server loses all before its last
    `@`, so that a key with a slash in it, which makes the URL a wrong one, does not show either.
    """
    text = _SERVER_USERINFO.sub(rf"\1{HIDDEN}@", text)
    return _PARAMETER.sub(rf"\1{HIDDEN}", _ANY_USERINFO.sub(rf"\1{HIDDEN}@", text))

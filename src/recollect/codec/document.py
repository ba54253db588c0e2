"""Small JSON documents that notice any damage: the content and the SHA-256 of its exact bytes.

Layout, byte for byte: `{"sha256":"<64 hex>","content":<JSON>}` and a newline. It is JSON for
every reader; we compare the bytes. Format: docs/format.md#document
"""

from __future__ import annotations

import hashlib

from recollect.errors import IntegrityError

_HEAD = b'{"sha256":"'
_MIDDLE = b'","content":'
_TAIL = b"}\n"
_DIGEST_END = len(_HEAD) + 64
_CONTENT_START = _DIGEST_END + len(_MIDDLE)


def seal_document(content: bytes) -> bytes:
    """Wrap JSON bytes with their digest; deterministic."""
    digest = hashlib.sha256(content).hexdigest().encode("ascii")
    return _HEAD + digest + _MIDDLE + content + _TAIL


def open_document(data: bytes) -> bytes:
    """Return the content; the inverse of `seal_document`.

    Raises:
        IntegrityError: A byte is not what was written.
    """
    is_framed = (
        data.startswith(_HEAD)
        and data[_DIGEST_END:_CONTENT_START] == _MIDDLE
        and data.endswith(_TAIL)
        and len(data) >= _CONTENT_START + len(_TAIL)
    )
    content = data[_CONTENT_START : -len(_TAIL)]
    if not is_framed or hashlib.sha256(content).hexdigest().encode("ascii") != data[len(_HEAD) : _DIGEST_END]:
        raise IntegrityError(f"the document is damaged ({len(data)} bytes that do not match their digest)")
    return content

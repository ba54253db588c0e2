"""URLs of Qdrant servers: where REST and gRPC are, and where the key comes from.

`qdrant://host:6334?rest=6333`, `qdrants://…` for TLS; `http://host:6333?grpc=6334`, `https://…` for TLS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec

from recollect.errors import AccessError, RequestError

Secrets: TypeAlias = Callable[[str], str | None]
"""Returns the value of a named secret (an environment variable's, as a rule); None if it is not set."""

Capture: TypeAlias = Literal["auto", "snapshot", "scroll"]
"""How records are read: by shard snapshots only, by scrolling, or by the best way that works."""

REST_PORT = 6333
GRPC_PORT = 6334
TIMEOUT_S = 60.0

_SCHEMES = {"qdrant": False, "qdrants": True, "http": False, "https": True}
_PARAMETERS = {
    "rest",
    "grpc",
    "tls",
    "tls_ca",
    "timeout",
    "api_key",
    "api_key_env",
    "api_key_file",
    "nodes",
    "capture",
}
_CAPTURES: dict[str, Capture] = {"auto": "auto", "snapshot": "snapshot", "scroll": "scroll"}
_FORM = "use qdrant://HOST:6334?rest=6333&api_key_env=NAME or http://HOST:6333"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One server.

    Attributes:
        host: Name or IP address.
        rest_port: Of the REST interface.
        grpc_port: Of the gRPC interface.
        prefix: Path before all REST paths, for servers behind a proxy; empty or with a leading slash.
        is_tls: Both interfaces speak TLS.
        tls_ca: File of the certificate authority to trust; empty for the system's.
        timeout_s: Seconds that one call may take.
        nodes: REST addresses of the cluster's nodes (`HOST:PORT`), where they are not what the cluster says.
        capture: How a source is read.
    """

    host: str
    rest_port: int
    grpc_port: int
    prefix: str = ""
    is_tls: bool = False
    tls_ca: str = ""
    timeout_s: float = TIMEOUT_S
    nodes: tuple[str, ...] = ()
    capture: Capture = "auto"

    def node(self, host: str, rest_port: int) -> Address:
        """Return the address of another node of the same cluster, reached in the same way."""
        return msgspec.structs.replace(self, host=host, rest_port=rest_port, nodes=())

    @property
    def url(self) -> str:
        """The normalized URL, without credentials; the same for all spellings of one server."""
        scheme = "qdrants" if self.is_tls else "qdrant"
        return f"{scheme}://{self._authority}:{self.grpc_port}{self.prefix}?rest={self.rest_port}"

    @property
    def rest_url(self) -> str:
        """Where REST is."""
        scheme = "https" if self.is_tls else "http"
        return f"{scheme}://{self._authority}:{self.rest_port}{self.prefix}"

    @property
    def grpc_target(self) -> str:
        """Where gRPC is, as a channel takes it."""
        return f"{self._authority}:{self.grpc_port}"

    @property
    def _authority(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_address(url: str, secrets: Secrets) -> tuple[Address, str]:
    """Read a URL; return the address and the API key, empty if there is none.

    The key stands in `api_key_env` (a name for `secrets`), in the file `api_key_file`, in `api_key`,
    or before the `@`. It is in no message and in no part of the address.

    Raises:
        RequestError: The URL has no host, an unknown scheme or parameter, or a bad number.
        AccessError: The named secret is not set, or its file cannot be read.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RequestError("a Qdrant URL has a port that is no number up to 65535", _FORM) from error
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise RequestError(f"a Qdrant URL of scheme {parts.scheme!r} names no server", _FORM)
    parameters = _parameters(parts.query)
    is_rest_first = parts.scheme in {"http", "https"}
    given_rest = _number(parameters, "rest", REST_PORT)
    given_grpc = _number(parameters, "grpc", GRPC_PORT)
    address = Address(
        host=parts.hostname,
        rest_port=(port or given_rest) if is_rest_first else given_rest,
        grpc_port=given_grpc if is_rest_first else (port or given_grpc),
        prefix=parts.path.rstrip("/"),
        is_tls=_SCHEMES[parts.scheme] or parameters.get("tls", "").lower() in {"1", "true", "yes"},
        tls_ca=parameters.get("tls_ca", ""),
        timeout_s=_seconds(parameters),
        nodes=_nodes(parameters.get("nodes", "")),
        capture=_capture(parameters.get("capture", "auto")),
    )
    return address, _api_key(parts, parameters, secrets)


def _parameters(query: str) -> dict[str, str]:
    parameters = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    unknown = sorted(parameters.keys() - _PARAMETERS)
    if unknown:
        known = ", ".join(sorted(_PARAMETERS))
        raise RequestError(f"a Qdrant URL has the unknown parameter {unknown[0]!r}", f"there are: {known}")
    return parameters


def _number(parameters: dict[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise RequestError(f"{name}={text} in a Qdrant URL is no port", _FORM)
    return int(text)


def _seconds(parameters: dict[str, str]) -> float:
    text = parameters.get("timeout", str(TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise RequestError(
            f"timeout={text} in a Qdrant URL is no number of seconds", "for example timeout=60"
        )
    return seconds


def _nodes(text: str) -> tuple[str, ...]:
    nodes = tuple(part.strip() for part in text.split(",") if part.strip())
    for node in nodes:
        host, _, port = node.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise RequestError(
                f"nodes= in a Qdrant URL has {node!r}", "give HOST:PORT of each node's REST interface"
            )
    return nodes


def _capture(text: str) -> Capture:
    if text not in _CAPTURES:
        raise RequestError(f"capture={text} in a Qdrant URL", f"there are: {', '.join(_CAPTURES)}")
    return _CAPTURES[text]


def _api_key(parts: SplitResult, parameters: dict[str, str], secrets: Secrets) -> str:
    if parameters.get("api_key_env"):
        name = parameters["api_key_env"]
        found = secrets(name)
        if not found:
            raise AccessError(
                f"the Qdrant URL takes the API key from {name}, which is not set", f"set {name} and try again"
            )
        return found
    if parameters.get("api_key_file"):
        path = Path(parameters["api_key_file"])
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise AccessError(
                f"the Qdrant URL takes the API key from {path}, which cannot be read: {error.strerror}",
                "check the file and its permissions",
            ) from error
    return parameters.get("api_key") or unquote(parts.password or parts.username or "")

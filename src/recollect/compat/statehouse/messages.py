"""The messages of `statehouse.proto`, built from that file when this module is imported.

They live in a descriptor pool of their own, so that a program can also import the published
`statehouse` package, which registers the same names.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Any, NamedTuple

from recollect.errors import MissingDependencyError

try:
    import grpc
    from google.protobuf import (  # type: ignore[import-untyped]  # it has no types
        descriptor_pb2,
        descriptor_pool,
        message_factory,
        struct_pb2,
    )
except ImportError as missing:
    raise MissingDependencyError(
        "Statehouse's API needs grpcio and protobuf", "install them: pip install 'recollect[serve]'"
    ) from missing

__all__ = ["MESSAGES", "PACKAGE", "SERVICE", "SERVICES", "SNAPSHOT_SERVICE", "Method", "grpc"]

PACKAGE = "statehouse.v1"
SERVICE = f"{PACKAGE}.StatehouseService"
SNAPSHOT_SERVICE = f"{PACKAGE}.SnapshotService"

_FILE = "recollect/compat/statehouse/statehouse.proto"
_BLOCK = re.compile(r"(message|service)\s+(\w+)\s*\{(.*?)\}", re.DOTALL)
_FIELD = re.compile(r"(optional |repeated )?\s*([\w.]+)\s+(\w+)\s*=\s*(\d+)\s*;")
_METHOD = re.compile(r"rpc\s+(\w+)\((\w+)\)\s+returns\s+\((stream )?(\w+)\);")
_SCALARS = {"string": 9, "uint64": 4, "bool": 8}  # FieldDescriptorProto.Type
_MESSAGE = 11


class Method(NamedTuple):
    """One method of a service."""

    name: str
    request: Any
    response: Any
    is_stream: bool


def _build() -> tuple[dict[str, Any], dict[str, list[Method]]]:
    text = resources.files("recollect.compat.statehouse").joinpath("statehouse.proto").read_text("utf-8")
    text = re.sub(r"//.*", "", text)
    blocks = [match.groups() for match in _BLOCK.finditer(text)]
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=PACKAGE, syntax="proto3")
    file.dependency.append("google/protobuf/struct.proto")
    for kind, name, body in blocks:
        if kind == "message":
            _add_message(file, name, body)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    messages = {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{message.name}"))
        for message in file.message_type
    }
    services = {
        f"{PACKAGE}.{name}": [
            Method(method, messages[request], messages[response], bool(stream))
            for method, request, stream, response in _METHOD.findall(body)
        ]
        for kind, name, body in blocks
        if kind == "service"
    }
    return messages, services


def _add_message(file: descriptor_pb2.FileDescriptorProto, name: str, body: str) -> None:
    message = file.message_type.add(name=name)
    for label, kind, field_name, number in _FIELD.findall(body):
        field = message.field.add(name=field_name, number=int(number))
        field.label = field.LABEL_REPEATED if label == "repeated " else field.LABEL_OPTIONAL
        field.type = _SCALARS.get(kind, _MESSAGE)
        if kind not in _SCALARS:
            field.type_name = f".{kind}" if "." in kind else f".{PACKAGE}.{kind}"
        if label == "optional ":
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field_name}")


MESSAGES, SERVICES = _build()
"""Message classes by name, and methods by full name of their service."""

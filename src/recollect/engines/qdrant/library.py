"""The only place that loads `grpc`, `httpx` and the message classes of `qdrant_client`.

The classes are rebuilt from the shipped descriptors with two changes that leave the form on the wire
as it is. Packed floats are declared as bytes: a vector is read and written as the buffer that NumPy
has, without a Python object for each element. Maps are declared as lists of their entries, which
Python walks several times faster.
Source: https://protobuf.dev/programming-guides/encoding/#packed and #maps
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from recollect.errors import MissingDependencyError

_FLOATS_AS_BYTES = {("DenseVector", "data"), ("SparseVector", "values"), ("VectorOutput", "data")}
_MESSAGES = (
    "ScrollPoints",
    "ScrollResponse",
    "UpsertPoints",
    "PointsOperationResponse",
    "CountPoints",
    "CountResponse",
)


class QdrantLibrary(NamedTuple):
    """What the adapter uses of foreign packages; all of it is untyped."""

    grpc: ModuleType
    httpx: ModuleType
    messages: dict[str, Any]

    def message(self, name: str) -> Any:
        """Return a message class of the package `qdrant`."""
        return self.messages[name]


@cache
def qdrant_library() -> QdrantLibrary:
    """Load the packages once; MissingDependencyError tells how to install them."""
    try:
        import grpc  # noqa: PLC0415 - an extra: only users of qdrant:// need it
        import httpx  # noqa: PLC0415 - as above
        from google.protobuf import (  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
            descriptor_pb2,
            descriptor_pool,
            message_factory,
            timestamp_pb2,
        )
        from qdrant_client.grpc import (  # noqa: PLC0415 - as above
            collections_pb2,
            json_with_int_pb2,
            points_pb2,
            qdrant_common_pb2,
        )
    except ImportError as error:
        raise MissingDependencyError(
            "reaching a Qdrant server needs the packages qdrant-client and grpcio",
            'install them with `pip install "recollect[qdrant]"`',
        ) from error
    pool = descriptor_pool.DescriptorPool()
    # In the order of their imports: a pool takes a file after those that it imports.
    for module in (timestamp_pb2, json_with_int_pb2, qdrant_common_pb2, collections_pb2, points_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            _declare_floats_as_bytes(message, descriptor_pb2.FieldDescriptorProto)
            for entry in message.nested_type:
                entry.options.ClearField("map_entry")
        pool.AddSerializedFile(file.SerializeToString())
    found = {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"qdrant.{name}"))
        for name in _MESSAGES
    }
    return QdrantLibrary(grpc, httpx, found)


def _declare_floats_as_bytes(message: Any, field_class: Any) -> None:
    for field in message.field:
        if (message.name, field.name) in _FLOATS_AS_BYTES:
            field.type = field_class.TYPE_BYTES
            field.label = field_class.LABEL_OPTIONAL
            field.ClearField("options")

"""An S3 server over real sockets, when `moto[server]` is installed."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from recollect.storage.base import ObjectStore

pytest.register_assert_rewrite("recollect.testing.store_contract")

_bucket_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def open_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ObjectStore]:
    """Return a function that opens a new bucket, through another endpoint if one is given."""
    cloud = pytest.importorskip("recollect.storage.cloud", reason="obstore is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    bucket = f"bucket-{next(_bucket_numbers)}"
    connection = http.client.HTTPConnection(urlsplit(s3_endpoint).netloc)
    connection.request("PUT", f"/{bucket}")
    assert connection.getresponse().status == 200
    connection.close()

    def open_it(*, endpoint: str = s3_endpoint, prefix: str = "some/prefix") -> ObjectStore:
        options = {"endpoint": endpoint, "region": "us-east-1"}
        opened: ObjectStore = cloud.open_cloud("s3", bucket, prefix=prefix, options=options)
        return opened

    return open_it

"""S3 through a proxy that loses answers and ignores ranges, as servers and networks do."""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from recollect.clock import ManualClock
from recollect.errors import ConflictError, NotFoundError, RequestError, UnavailableError
from recollect.storage.base import ObjectStore
from recollect.storage.retry import RetryingStore


class Proxy(ThreadingHTTPServer):
    """Passes requests on to an S3 server.

    Attributes:
        lost_answers: So many creations are passed on, and their answers dropped.
        overload_answers: So many requests are answered 503 without being passed on.
        ignores_ranges: Ranges are not passed on, so that the whole value comes back.
        requests: Methods of the requests that came.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.lost_answers = 0
        self.overload_answers = 0
        self.ignores_ranges = False
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        proxy = self.server
        proxy.requests.append(self.command)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if proxy.overload_answers:
            proxy.overload_answers -= 1
            self._answer(503, {}, b"")
            return
        headers = {name: value for name, value in self.headers.items() if not self._is_dropped(name)}
        connection = http.client.HTTPConnection(proxy.upstream)
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        if proxy.lost_answers and self.headers.get("if-none-match"):
            proxy.lost_answers -= 1
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._answer(response.status, dict(response.getheaders()), data)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on  # noqa: N815 -- the names that http.server looks for

    def _is_dropped(self, name: str) -> bool:
        return name.lower() == "range" and self.server.ignores_ranges

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    server = Proxy(s3_endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket(open_bucket: Callable[..., ObjectStore], proxy: Proxy) -> ObjectStore:
    return open_bucket(endpoint=proxy.url)


def test_a_creation_whose_answer_is_lost_is_sent_once(bucket: ObjectStore, proxy: Proxy) -> None:
    """Sent again by the transport, it would meet itself and report a conflict."""
    proxy.lost_answers = 1

    with pytest.raises(UnavailableError):
        bucket.put_if_absent("key", b"ours")

    assert proxy.requests == ["PUT"]
    assert bucket.get("key") == b"ours"


def test_a_lost_answer_is_resolved_by_reading_back(bucket: ObjectStore, proxy: Proxy) -> None:
    proxy.lost_answers = 1
    store = RetryingStore(bucket, ManualClock(), random.Random(1).randbytes)

    store.put_if_absent("key", b"ours")

    assert bucket.get("key") == b"ours"
    with pytest.raises(ConflictError):
        store.put_if_absent("key", b"ours")


def test_an_overloaded_server_is_asked_again(bucket: ObjectStore, proxy: Proxy) -> None:
    bucket.put("key", b"value")
    proxy.overload_answers = 2

    assert bucket.get("key") == b"value"


def test_a_server_that_ignores_ranges_is_read_whole(bucket: ObjectStore, proxy: Proxy) -> None:
    bucket.put("key", b"0123456789")
    proxy.ignores_ranges = True

    assert bucket.get_range("key", 3, 4) == b"3456"
    assert bucket.get_range("key", 8, 9) == b"89"
    assert bucket.get_range("key", 10, 1) == b""
    with pytest.raises(NotFoundError):
        bucket.get_range("absent", 0, 1)


def test_a_server_that_is_down_is_unavailable(open_bucket: Callable[..., ObjectStore]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        store = open_bucket(endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}")

        with pytest.raises(UnavailableError, match=r"cannot create key \(5 bytes\) in s3://"):
            store.put_if_absent("key", b"value")


def test_a_missing_bucket_is_a_wrong_url_and_not_a_missing_key(s3_endpoint: str) -> None:
    """Otherwise a listing could pass for empty and a deletion for done."""
    cloud = pytest.importorskip("recollect.storage.cloud")
    options = {"endpoint": s3_endpoint, "region": "us-east-1", "anonymous": "true"}
    store = cloud.open_cloud("s3", "no-such-bucket", prefix="", options=options)

    for action in (
        lambda: store.put("key", b"value"),
        lambda: store.get("key"),
        lambda: list(store.list("")),
    ):
        with pytest.raises(RequestError, match="bucket does not exist"):
            action()


def test_other_prefixes_of_the_bucket_are_out_of_sight(open_bucket: Callable[..., ObjectStore]) -> None:
    one, other, whole = (open_bucket(prefix=prefix) for prefix in ("a/b", "a/bc", ""))
    one.put("key", b"one")
    other.put("key", b"other")

    assert [entry.key for entry in one.list("")] == ["key"]
    assert [entry.key for entry in whole.list("")] == ["a/b/key", "a/bc/key"]
    assert one.get("key") == b"one"


def test_a_listing_of_many_pages_is_whole(open_bucket: Callable[..., ObjectStore]) -> None:
    bucket = open_bucket()
    keys = [f"objects/{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda key: bucket.put(key, b""), keys))

    assert [entry.key for entry in bucket.list("objects")] == keys

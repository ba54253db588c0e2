"""Archives of a server that lies: every one is an IntegrityError, soon, and nothing leaves its directory."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from recollect.engines.qdrant import tar_members as members_module
from recollect.engines.qdrant.archive import check_archive
from recollect.engines.qdrant.capture.spool import Budget, Claim
from recollect.engines.qdrant.capture.unpack import Unpacked, unpack
from recollect.engines.qdrant.sparse_tar import SparseTarWriter
from recollect.errors import IntegrityError

END = bytes(1024)
SEGMENT = "segments/0c/files/"


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, max(size, 0), link
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    if size < 0:
        block[124:136] = number(size)
    return sealed(block)


def number(value: int) -> bytes:
    """Return a number as tar has those that need more than octal digits."""
    first = b"\xff" if value < 0 else b"\x80"
    return first + (value % 256**11).to_bytes(11, "big")


def sealed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def sparse(extents: list[tuple[int, int]], *, size: int, stored: int, is_extended: bool = False) -> bytes:
    block = bytearray(header(SEGMENT + "a.dat", stored, tarfile.GNUTYPE_SPARSE))
    for place, (offset, length) in enumerate(extents):
        block[386 + 24 * place : 410 + 24 * place] = number(offset) + number(length)
    block[482] = is_extended
    block[483:495] = number(size)
    return sealed(block)


def plain(name: str, content: bytes = b"content") -> bytes:
    return header(name, len(content)) + content + bytes(-len(content) % 512)


def taken(tmp_path: Path, archive: bytes) -> Unpacked:
    path = tmp_path / "shard.tar"
    path.write_bytes(archive)
    return unpack(path, tmp_path / "inside" / "out", what="it", budget=Claim(Budget(1 << 30)))


WHOLE = plain(SEGMENT + "segment.json") + plain(SEGMENT + "version.info")


def test_what_a_server_writes_is_taken(tmp_path: Path) -> None:
    content = sparse([(4096, 3), (70_000, 0)], size=70_000, stored=3) + b"abc" + bytes(509)

    found = taken(tmp_path, WHOLE + content + END)

    (path,) = found.directory.rglob("a.dat")
    assert path.read_bytes() == bytes(4096) + b"abc" + bytes(70_000 - 4099)


@pytest.mark.parametrize(
    "member",
    [
        plain("/etc/passwd"),
        plain("../outside"),
        plain("segments/../../outside"),
        plain(SEGMENT + "../../../../outside"),
        plain("segments/../files/a"),
        plain("."),
        plain("./"),
        plain("segments"),
        plain("segments/a"),
        plain("segments/0c/elsewhere/a"),
        plain(SEGMENT + "segment.json"),
        plain(SEGMENT + "segment.json/below"),
        plain(SEGMENT + "new/a") + plain(SEGMENT + "new"),
        header(SEGMENT + "a", kind=tarfile.SYMTYPE, link="/etc"),
        header(SEGMENT + "a", kind=tarfile.LNKTYPE, link=SEGMENT + "segment.json"),
        header(SEGMENT + "a", kind=tarfile.LNKTYPE, link="nowhere"),
        header(SEGMENT + "a", kind=tarfile.CHRTYPE),
        header(SEGMENT + "a", kind=tarfile.BLKTYPE),
        header(SEGMENT + "a", kind=tarfile.FIFOTYPE),
        header(SEGMENT + "a", kind=b"?"),
        header(SEGMENT + "a", -512),
        header(SEGMENT + "a", -(2**80)),
        header("directory", -512, tarfile.DIRTYPE),
        header(SEGMENT + "a", 2**80),
        header("L", 2**40, tarfile.GNUTYPE_LONGNAME),
        header("L", 2**80, tarfile.GNUTYPE_LONGNAME),
        header("x", 2**40, tarfile.XHDTYPE),
        header("L", 512, tarfile.GNUTYPE_LONGNAME) + bytes(512),
        (header("L", 1, tarfile.GNUTYPE_LONGNAME) + b"a" + bytes(511)) * 5000,
        header("x", 30, tarfile.XHDTYPE) + b"30 GNU.sparse.map=1,2,3,a,bcd\n" + bytes(482) + plain("a"),
        plain(SEGMENT + "segment_manifest.json", b"[" * 100_000),
        plain(
            SEGMENT + "segment_manifest.json", b'{"segment_id":"../x","segment_version":1,"file_versions":{}}'
        ),
        sparse([(0, 512), (0, 512)], size=1024, stored=1024) + bytes(1024),
        sparse([(512, 512), (0, 512)], size=1024, stored=1024) + bytes(1024),
        sparse([(0, -1)], size=2**60, stored=0),
        sparse([(-512, 512)], size=512, stored=512) + bytes(512),
        sparse([(0, 2**62)], size=2**62, stored=512) + bytes(512),
        sparse([(2**62, 512)], size=512, stored=512) + bytes(512),
        sparse([(0, 1024)], size=1024, stored=512) + bytes(512) + plain(SEGMENT + "b"),
        sparse([(0, 512)], size=-512, stored=512) + bytes(512),
        sparse([(0, 512)], size=512, stored=512, is_extended=True),
        plain("segments/0d.tar", plain("snapshot/files/segment.json")),
        plain("segments/0d.tar", plain("../../outside") + END),
        plain("segments/0d.tar", plain(".") + END),
        plain("segments/0d.tar", b"no archive"),
    ],
)
def test_what_no_server_writes_is_refused(tmp_path: Path, member: bytes) -> None:
    with pytest.raises(IntegrityError, match="cannot be trusted"):
        taken(tmp_path, WHOLE + member + END)

    assert not list(tmp_path.rglob("outside"))
    assert {path.name for path in tmp_path.iterdir()} <= {"shard.tar", "inside"}


def test_a_manifest_that_is_mostly_a_hole_is_not_read(tmp_path: Path) -> None:
    block = bytearray(sparse([(0, 1)], size=2**44, stored=1))
    block[:100] = (SEGMENT + "segment_manifest.json").encode().ljust(100, b"\0")

    with pytest.raises(IntegrityError, match=f"has {2**44} bytes"):
        taken(tmp_path, WHOLE + sealed(block) + b"{" + bytes(511) + END)


def test_the_number_of_members_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "MEMBERS_MAX", 3)

    with pytest.raises(IntegrityError, match="more than 3 members"):
        taken(tmp_path, WHOLE + plain("a") + plain("b") + END)


def test_a_cut_anywhere_is_found(tmp_path: Path) -> None:
    """Also within the blocks of a sparse file that has many extents."""
    file = io.BytesIO()
    pieces: list[tuple[int, int, Callable[[], bytes]]] = [
        (4096 * place, 1, lambda: b"x") for place in range(60)
    ]
    SparseTarWriter(file).add_pieces(SEGMENT + "a.dat", 4096 * 60, pieces)
    whole = WHOLE + file.getvalue() + END
    for length in range(0, len(whole), 256):
        (tmp_path / str(length)).mkdir()
        with pytest.raises(IntegrityError):
            taken(tmp_path / str(length), whole[:length])


@pytest.mark.parametrize(
    "member",
    [
        header("config.json", kind=tarfile.SYMTYPE, link="nowhere"),
        header("config.json", -512),
        header("L", 2**80, tarfile.GNUTYPE_LONGNAME),
        (header("L", 1, tarfile.GNUTYPE_LONGNAME) + b"a" + bytes(511)) * 5000,
        sparse([(0, 512)], size=512, stored=512, is_extended=True),
        plain("config.json", b"[" * 100_000),
    ],
)
def test_a_hostile_snapshot_of_a_collection_is_refused(tmp_path: Path, member: bytes) -> None:
    path = tmp_path / "c.snapshot"
    path.write_bytes(plain("version.info", b"1.19.0") + member)

    with pytest.raises(IntegrityError, match="cannot be trusted"):
        check_archive(path)

"""The failover loop between two test servers; the primary is a process of its own where it is killed."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from recollect.clock import ManualClock
from recollect.compat.codeweaver import FailoverService, FailoverSettings
from recollect.compat.codeweaver.circuit_breaker import CircuitBreaker, CircuitState
from recollect.compat.codeweaver.outage_file import OutageFile
from recollect.errors import UnavailableError
from recollect.testing.qdrant_server import QdrantServer
from tests.codeweaver.conftest import COLLECTION, fill, held, open_client, point, run, store_of

SNAPSHOT_CALL = "POST /collections/{name}/snapshots"


@pytest.fixture
def second(tmp_path: Path) -> Iterator[QdrantServer]:
    with QdrantServer(tmp_path / "second") as running:
        yield running


class Pair:
    """A primary with 20 records, an empty backup, and a service over both."""

    def __init__(
        self, first: QdrantServer, second: QdrantServer, clock: ManualClock, directory: Path
    ) -> None:
        self.first, self.second, self.clock, self.directory = first, second, clock, directory

    @asynccontextmanager
    async def service(self, **settings: object) -> AsyncIterator[FailoverService]:
        base = FailoverSettings(snapshot_storage_path=self.directory / "kept", health_check_timeout=5)
        chosen = msgspec.structs.replace(base, **settings)
        clients = [open_client(self.first, "async"), open_client(self.second, "sync")]
        yield FailoverService(
            store_of(clients[0]),
            store_of(clients[1]),
            chosen,
            clock=self.clock,
            state_path=self.directory / "state",
        )
        assert isinstance(clients[0], AsyncQdrantClient)
        await clients[0].close()
        clients[1].close()

    async def lose_primary(self, service: FailoverService) -> None:
        self.first.faults.refuse("")
        for _ in range(3):
            await service.check_health()
        assert service.failover_active

    def held(self, server: QdrantServer) -> dict[Any, Any]:
        client = QdrantClient(url=server.rest_url, check_compatibility=False)
        try:
            return held(client)
        finally:
            client.close()


@pytest.fixture
def pair(
    qdrant: QdrantServer, second: QdrantServer, direct: QdrantClient, clock: ManualClock, tmp_path: Path
) -> Pair:
    assert direct is not None
    return Pair(qdrant, second, clock, tmp_path)


def test_a_cycle_brings_the_backup_up_to_date_and_snapshots_the_primary(
    pair: Pair, direct: QdrantClient
) -> None:
    async def steps() -> None:
        async with pair.service() as service:
            first = await service.run_cycle()
            fill(direct, range(15, 25))
            direct.delete(COLLECTION, [0, 1])
            second = await service.run_cycle()
            third = await service.run_cycle()
        assert first.errors == second.errors == third.errors == {}
        assert [(each.sync.written, each.sync.deleted) for each in (first, second, third) if each.sync] == [
            (20, 0),
            (5, 2),
            (0, 0),
        ]
        assert first.snapshot is not None
        assert first.snapshot["snapshot_created"]

    run(steps())
    assert pair.held(pair.second) == pair.held(pair.first)
    assert list((pair.directory / "kept").glob("*.snapshot"))


def test_snapshots_and_reconciliations_come_every_so_many_cycles(pair: Pair) -> None:
    async def steps() -> list[tuple[bool, bool]]:
        async with pair.service(snapshot_interval_cycles=3, reconciliation_interval_cycles=2) as service:
            reports = [await service.run_cycle() for _ in range(6)]
        return [(report.snapshot is not None, report.reconciliation is not None) for report in reports]

    assert run(steps()) == [
        (False, False),
        (False, True),
        (True, False),
        (False, True),
        (False, False),
        (True, True),
    ]


def test_a_failing_phase_does_not_stop_the_others(pair: Pair) -> None:
    async def steps() -> None:
        async with pair.service(reconciliation_interval_cycles=1) as service:
            await service.run_cycle()
            pair.second.faults.refuse("")
            broken = await service.run_cycle()
            assert set(broken.errors) == {"sync", "reconciliation"}
            assert broken.snapshot is not None
            pair.second.faults.clear()
            pair.first.faults.refuse(SNAPSHOT_CALL)
            other = await service.run_cycle()
            assert set(other.errors) == {"snapshot"}
            assert other.reconciliation is not None
            pair.first.faults.clear()
            again = await service.run_cycle()
            assert again.errors == {}
            assert again.snapshot is not None

    run(steps())


def test_reconciliation_repairs_what_others_did_to_the_backup(pair: Pair) -> None:
    backup = QdrantClient(url=pair.second.rest_url, check_compatibility=False)

    async def steps() -> None:
        async with pair.service(reconciliation_interval_cycles=2) as service:
            await service.run_cycle()
            backup.upsert(COLLECTION, [point(3, version=9), point(99)])
            backup.delete(COLLECTION, [5])
            report = await service.run_cycle()
        assert report.reconciliation is not None
        assert (report.reconciliation.detected, report.reconciliation.repaired) == (3, 3)

    run(steps())
    backup.close()
    assert pair.held(pair.second) == pair.held(pair.first)


def test_cycles_are_skipped_while_failover_is_active_or_disabled(pair: Pair) -> None:
    async def steps() -> None:
        async with pair.service() as service:
            await service.run_cycle()
            await pair.lose_primary(service)
            assert (await service.run_cycle()).is_skipped
        async with pair.service(disable_failover=True) as off:
            assert (await off.run_cycle()).is_skipped
            off.start()
            assert not off._tasks

    run(steps())


def test_three_failed_checks_open_the_circuit_and_one_does_not(pair: Pair) -> None:
    async def steps() -> None:
        async with pair.service() as service:
            await service.run_cycle()
            pair.first.faults.refuse("", count=2)
            await service.check_health()
            await service.check_health()
            assert not service.failover_active
            await service.check_health()
            assert service.circuit_state is CircuitState.CLOSED
            await pair.lose_primary(service)
            assert service.active_store is service.backup_store

    run(steps())


def test_writes_go_back_only_after_a_whole_window_of_health(pair: Pair) -> None:
    async def steps() -> None:
        async with pair.service(recovery_window_sec=300) as service:
            await service.run_cycle()
            await pair.lose_primary(service)
            pair.first.faults.clear()
            await service.check_health()
            pair.clock.advance(299)
            await service.check_health()
            assert service.failover_active
            pair.first.faults.refuse("", count=1)
            await service.check_health()
            pair.clock.advance(299)
            await service.check_health()
            pair.clock.advance(299)
            await service.check_health()
            assert service.failover_active, "the window begins anew after a failure"
            pair.clock.advance(1)
            await service.check_health()
            assert not service.failover_active

    run(steps())


def test_what_the_backup_took_comes_back_and_unsynced_writes_stay(pair: Pair, direct: QdrantClient) -> None:
    async def steps() -> None:
        async with pair.service(recovery_window_sec=1) as service:
            await service.run_cycle()
            await service.upsert([point(7, version=1), point(50, version=1)])  # never synced
            await service.delete([8])
            await pair.lose_primary(service)
            await service.upsert([point(60, version=2), point(9, version=2)])
            await service.delete([10])
            pair.first.faults.clear()
            await service.check_health()
            pair.clock.advance(1)
            await service.check_health()
            assert not service.failover_active
            await service.run_cycle()

    run(steps())
    found = held(direct)
    assert (found[7], found[50], found[60], found[9]) == (1, 1, 2, 2)
    assert not {8, 10} & set(found)
    assert pair.held(pair.second) == found


def test_a_restart_during_an_outage_goes_on_with_it(pair: Pair, direct: QdrantClient) -> None:
    async def steps() -> None:
        async with pair.service() as service:
            await service.run_cycle()
            await pair.lose_primary(service)
            await service.upsert([point(70, version=3)])
        async with pair.service(recovery_window_sec=1) as restarted:
            states = [restarted.failover_active]
            pair.first.faults.clear()
            await restarted.check_health()
            pair.clock.advance(1)
            await restarted.check_health()
            states.append(restarted.failover_active)
        assert states == [True, False]
        assert list((pair.directory / "state").iterdir()) == []

    run(steps())
    assert held(direct)[70] == 3


async def recover(pair: Pair, service: FailoverService) -> None:
    pair.first.faults.clear()
    await service.check_health()
    pair.clock.advance(1)
    await service.check_health()
    assert not service.failover_active


UUID = "936da01f-9abd-4d9d-80c7-02af85c822a8"


@pytest.mark.parametrize("is_restarted", [False, True])
def test_writes_of_an_outage_that_leave_no_difference_in_the_backup_come_back_too(
    pair: Pair, direct: QdrantClient, *, is_restarted: bool
) -> None:
    """What the primary took after the last sync is deleted, or set back to what the backup has."""

    async def steps() -> None:
        async with pair.service(recovery_window_sec=1) as service:
            await service.run_cycle()
            late = models.PointStruct(id=UUID, vector=[1.0, 2.0, 3.0, 4.0])
            await service.upsert([point(50, version=1), point(7, version=1), point(8, version=1), late])
            await pair.lose_primary(service)
            await service.delete([50, UUID.upper().replace("-", "")])
            await service.upsert([point(7, version=0)])
            if not is_restarted:
                await recover(pair, service)
        if is_restarted:
            async with pair.service(recovery_window_sec=1) as restarted:
                assert restarted.failover_active
                await recover(pair, restarted)
        assert list((pair.directory / "state").iterdir()) == []

    run(steps())
    found = held(direct)
    assert not {50, UUID} & set(found), "their deletion was acknowledged"
    assert (found[7], found[8]) == (0, 1)


def test_a_note_of_a_write_that_a_crash_cut_short_is_no_damage(tmp_path: Path) -> None:
    file = OutageFile(tmp_path / "docs.outage")
    file.save({1: b"a"})
    file.note([1, "x"])
    file.note([2])
    path = tmp_path / "docs.outage.writes"
    path.write_bytes(path.read_bytes()[:-1])

    assert file.noted() == {1, "x"}
    file.save({})
    assert file.noted() == set()
    file.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_write_whose_note_cannot_be_kept_is_not_acknowledged(pair: Pair) -> None:
    async def steps() -> None:
        async with pair.service() as service:
            await service.run_cycle()
            await pair.lose_primary(service)
            (notes,) = (pair.directory / "state").glob("*.writes")
            notes.unlink()
            notes.mkdir()
            with pytest.raises(UnavailableError, match="writes: Is a directory"):
                await service.delete([1])

    run(steps())


@pytest.mark.parametrize("kind", ["async", "async-grpc"])
def test_writes_that_are_wrong_are_no_sign_of_an_outage(pair: Pair, kind: str) -> None:
    async def steps() -> None:
        client = open_client(pair.first, kind)
        service = FailoverService(store_of(client), clock=pair.clock, state_path=pair.directory / "state")
        for _ in range(4):
            with pytest.raises(Exception, match=r"(?i)dimension"):
                await service.upsert([models.PointStruct(id=1, vector=[1.0])])
        assert service.circuit_state.value == "closed"
        pair.first.faults.refuse("")
        for _ in range(3):
            with pytest.raises(Exception, match=r"(?i)unavailable"):
                await service.upsert([point(1)])
        assert service.circuit_state.value == "open"
        assert isinstance(client, AsyncQdrantClient)
        await client.close()

    run(steps())


def test_pairs_of_other_servers_do_not_share_an_outage(pair: Pair, tmp_path: Path) -> None:
    """Their collections have the same name, and their states stand in the same directory."""

    async def steps() -> None:
        async with pair.service() as service:
            await service.run_cycle()
            await pair.lose_primary(service)
        with QdrantServer(tmp_path / "third") as third, QdrantServer(tmp_path / "fourth") as fourth:
            async with Pair(third, fourth, pair.clock, pair.directory).service() as other:
                assert not other.failover_active
        async with pair.service() as again:
            assert again.failover_active

    run(steps())


def test_failover_does_not_wait_for_a_snapshot_of_a_primary_that_died(pair: Pair) -> None:
    async def steps() -> None:
        async with pair.service() as service:
            pair.first.faults.stall(SNAPSHOT_CALL, count=None)
            cycle = asyncio.create_task(service.run_cycle())
            await until(lambda: pair.first.faults.calls[SNAPSHOT_CALL])
            await pair.lose_primary(service)
            assert not cycle.done()
            await service.upsert([point(60, version=1)])
            pair.first.faults.clear()
            await cycle

    run(steps())


def test_without_a_reachable_backup_nothing_is_switched(pair: Pair) -> None:
    async def steps() -> None:
        async with pair.service() as service:
            pair.first.faults.refuse("")
            pair.second.faults.refuse("")
            for _ in range(4):
                await service.check_health()
            assert not service.failover_active

    run(steps())


def test_a_primary_that_fails_while_it_takes_the_writes_keeps_failover_active(pair: Pair) -> None:
    async def steps() -> None:
        async with pair.service(recovery_window_sec=1) as service:
            await service.run_cycle()
            await pair.lose_primary(service)
            await service.upsert([point(80, version=4)])
            pair.first.faults.clear()
            pair.first.faults.refuse("PUT /collections/{name}/points")
            await service.check_health()
            pair.clock.advance(1)
            await service.check_health()
            assert service.failover_active
            pair.first.faults.clear()
            await service.check_health()
            pair.clock.advance(1)
            await service.check_health()
            assert not service.failover_active

    run(steps())
    assert pair.held(pair.first)[80] == 4


def test_the_circuit_closes_again_with_a_success() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(clock, failure_threshold=2, open_s=30)
    states = []

    for step in ("failed", "failed", "wait", "failed", "wait", "succeeded"):
        clock.advance(30) if step == "wait" else getattr(breaker, step)()
        states.append(breaker.state.name)

    assert states == ["CLOSED", "OPEN", "HALF_OPEN", "OPEN", "HALF_OPEN", "CLOSED"]


def test_loops_start_and_stop(pair: Pair) -> None:
    async def steps() -> int:
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            await asyncio.sleep(0.01)

        clients = [open_client(pair.first, "async"), open_client(pair.second, "sync")]
        settings = FailoverSettings(snapshot_storage_path=pair.directory / "kept")
        service = FailoverService(
            store_of(clients[0]), store_of(clients[1]), settings, clock=pair.clock, sleep=sleep
        )
        service.start()
        await until(lambda: len(pauses) >= 6)
        await service.stop()
        assert isinstance(clients[0], AsyncQdrantClient)
        await clients[0].close()
        clients[1].close()
        assert {60, 300} == set(pauses)
        return len(pair.held(pair.second))

    assert run(steps()) == 20


# ------------------------------------------------------------------ a primary that is killed under load


SERVE = """
import os, sys, threading
from recollect.testing.qdrant_server.__main__ import main
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
main(sys.argv[1:])
"""
"""Serves until its standard input ends: a test run that is killed leaves no server behind."""


class Primary:
    """A test server in a process of its own, always at the same place."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self._directory), "", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("qdrant://")
        assert httpx.get(f"{self.url}/healthz", trust_env=False).is_success

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()


class Load:
    """Writers that remember, for each of their records, the version that was acknowledged last."""

    def __init__(self, service: FailoverService) -> None:
        self.service = service
        self.acknowledged: dict[int, int | None] = {}
        self.attempted: dict[int, set[int | None]] = {}
        self.write_count = 0
        self.failure_count = 0
        self.is_over = False

    async def write(self, writer: int) -> None:
        version = 0
        while not self.is_over:
            version += 1
            # Each record is written a few times in a row and then left: what an outage took must survive it.
            number = writer * 100_000 + version // 3
            is_delete = version % 9 == 5
            outcome = None if is_delete else version
            self.attempted.setdefault(number, set()).add(outcome)
            try:
                if is_delete:
                    await self.service.delete([number])
                else:
                    await self.service.upsert([point(number, version)])
            except Exception:  # noqa: BLE001 - not acknowledged: anything may have happened to it
                self.failure_count += 1
                self.acknowledged.pop(number, None)
                await asyncio.sleep(0.005)
                continue
            self.acknowledged[number] = outcome
            self.attempted[number] = {outcome}
            self.write_count += 1
            await asyncio.sleep(0.001)


async def until(condition: Any, seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come to that")


def test_killing_the_primary_under_load_loses_no_acknowledged_write(
    second: QdrantServer, tmp_path: Path, clock: ManualClock
) -> None:
    primary = Primary(tmp_path / "primary")
    primary.start()
    direct = QdrantClient(url=primary.url, check_compatibility=False)
    fill(direct, range(20))

    async def steps() -> Load:
        client = AsyncQdrantClient(url=primary.url, check_compatibility=False)
        backup = open_client(second, "async")
        settings = FailoverSettings(
            recovery_window_sec=5, health_check_timeout=5, snapshot_storage_path=tmp_path / "kept"
        )
        service = FailoverService(
            store_of(client), store_of(backup), settings, clock=clock, state_path=tmp_path / "state"
        )
        assert (await service.run_cycle()).errors == {}
        load = Load(service)
        writers = [asyncio.create_task(load.write(number)) for number in range(1, 5)]

        async def monitor() -> None:
            while not load.is_over:
                await service.check_health()
                clock.advance(1)
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(monitor())
        await until(lambda: load.write_count > 100)
        await service.run_cycle()
        await until(lambda: load.write_count > 200)
        primary.kill()
        await until(lambda: service.failover_active)
        before = load.write_count
        await until(lambda: load.write_count > before + 100)
        await asyncio.to_thread(primary.start)
        await until(lambda: not service.failover_active)
        after = load.write_count
        await until(lambda: load.write_count > after + 100)
        load.is_over = True
        await asyncio.gather(*writers, watching)
        await client.close()
        assert isinstance(backup, AsyncQdrantClient)
        await backup.close()
        return load

    try:
        load = run(steps())
        found = held(direct)
    finally:
        direct.close()
        primary.kill()
    assert load.failure_count > 0, "the outage was felt"
    for number, version in load.acknowledged.items():
        assert found.get(number) == version, f"record {number}"
    for number in set(load.attempted) - set(load.acknowledged):
        assert found.get(number) in load.attempted[number] | {None}
    assert {number: found[number] for number in range(20)} == dict.fromkeys(range(20), 0)

"""The commands over one database: checks in nvecd's order, then the work, then the reply."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from recollect.clock import Clock
from recollect.compat.nvecd import dump_reply
from recollect.compat.nvecd.admin import Admin
from recollect.compat.nvecd.cache import SearchCache
from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.compat.nvecd.dump import Dumps, Refused
from recollect.compat.nvecd.gate import NOAUTH, Gate
from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.protocol import reply
from recollect.compat.nvecd.protocol.parse import is_dump, parse_line
from recollect.compat.nvecd.saves import CheckpointLog, Saver
from recollect.compat.nvecd.searches import Searcher
from recollect.compat.nvecd.snapshot_directory import SnapshotDirectory
from recollect.compat.nvecd.statistics import Statistics
from recollect.compat.nvecd.variables import Variables
from recollect.compat.nvecd.writes import WriteLog, Writer
from recollect.database import Database
from recollect.errors import AccessError, RecollectError

_WRITE_REPLIES: dict[type, bytes] = {
    cmd.Event: b"OK EVENT\r\n",
    cmd.VecSet: b"OK VECSET\r\n",
    cmd.VecDel: b"OK VECDEL\r\n",
    cmd.MetaSet: b"OK METASET\r\n",
}


class FaceLog(WriteLog, CheckpointLog, Protocol):
    """nvecd's write-ahead log, as the face needs it."""


class Session:
    """What a connection remembers. For one connection."""

    __slots__ = ("is_authenticated", "is_debugging")

    def __init__(self) -> None:
        self.is_authenticated = False
        self.is_debugging = False


class Face:
    """nvecd over an embedded database. Safe to share between threads.

    Args:
        config_path: The file that the settings came from; CONFIG VERIFY looks beside it.
        log: nvecd's write-ahead log, if it is on.
    """

    def __init__(
        self,
        database: Database,
        settings: NvecdSettings,
        clock: Clock,
        *,
        config_path: Path | None = None,
        log: FaceLog | None = None,
    ) -> None:
        self.database = database
        self.settings = settings
        self.clock = clock
        self.gate = Gate()
        self.statistics = Statistics(clock)
        self.cache = SearchCache(settings.cache, clock, lambda: database.commit_ts)
        self.variables = Variables(settings, self.cache)
        self.writer = Writer(database, self.gate, clock, log)
        self.searcher = Searcher(database, settings.similarity)
        self.saver = Saver(database, self.gate, settings, clock, log)
        directory = SnapshotDirectory(settings.snapshot.dir)
        self.dumps = Dumps(database, self.gate, self.saver, directory, settings, clock, log)
        self.admin = Admin(self, config_path)
        self._password = settings.security.requirepass.encode("utf-8")

    def execute(self, lines: Sequence[bytes], session: Session) -> bytes:
        """Run commands in order and return their replies; neighbouring writes become one commit."""
        replies: list[bytes] = []
        waiting: list[cmd.Write] = []
        for line in lines:
            command: cmd.Command | None = None
            try:
                command = parse_line(line)
                self.check_access(command, session)
                if isinstance(command, (cmd.Event, cmd.VecSet, cmd.VecDel, cmd.MetaSet)):
                    waiting.append(command)
                    continue
            except RecollectError as error:
                self._flush(waiting, replies)
                self.statistics.note_command(command, failed=True)
                replies.append(self._failure(command, line, error))
                continue
            self._flush(waiting, replies)
            replies.append(self._run(command, session))
        self._flush(waiting, replies)
        return b"".join(replies)

    def check_access(self, command: cmd.Command, session: Session) -> None:
        """Refuse what the session may not do, or what may not be done now.

        Raises:
            AccessError, ConflictError: In nvecd's words.
        """
        if self._password and not session.is_authenticated and not cmd.is_open_to_all(command):
            raise AccessError(NOAUTH)
        self.gate.check(command)

    def is_password(self, given: bytes) -> bool:
        """Tell whether this is the password, in constant time."""
        return hmac.compare_digest(given, self._password)

    @property
    def has_password(self) -> bool:
        """Whether writes need a password."""
        return bool(self._password)

    def search(self, command: cmd.Search) -> tuple[list[tuple[str, float]], int, int]:
        """Run a search; return its results, how many there were before `min_score`, and its microseconds."""
        self.searcher.check(command)
        found, time_us = self.cache.search(command, lambda: self.searcher.run(command))
        kept = [(item, score) for item, score in found if score >= command.min_score]
        return kept, len(found), time_us

    def _flush(self, waiting: list[cmd.Write], replies: list[bytes]) -> None:
        if not waiting:
            return
        for write, error in zip(waiting, self.writer.apply(waiting), strict=True):
            self.statistics.note_command(write, failed=error is not None)
            replies.append(_WRITE_REPLIES[type(write)] if error is None else reply.error(error.message))
        waiting.clear()

    def _run(self, command: cmd.Command, session: Session) -> bytes:
        failed = True
        try:
            answer = self._dispatch(command, session)
            failed = answer.startswith((b"ERROR ", b"(error) "))
        except RecollectError as error:
            return self._failure(command, b"", error)
        else:
            return answer
        finally:
            self.statistics.note_command(command, failed=failed)

    def _failure(self, command: cmd.Command | None, line: bytes, error: RecollectError) -> bytes:
        """Reply to what failed; without a command, the line could not be read as one."""
        style = self.settings.snapshot.reply_style
        if isinstance(command, cmd.Dump) and command.verb == "SAVE":
            return dump_reply.save_failure(error, style)
        if isinstance(command, cmd.Dump) or (command is None and is_dump(line)):
            return dump_reply.failure(error.message, style)
        return reply.error(error.message)

    def _dispatch(self, command: cmd.Command, session: Session) -> bytes:
        match command:
            case cmd.Sim() | cmd.Simv():
                return self._search(command, session)
            case cmd.Auth():
                return self._authenticate(command, session)
            case cmd.Dump():
                return self._dump(command)
            case cmd.Debug():
                session.is_debugging = command.is_on
                return b"OK DEBUG_ON\r\n" if command.is_on else b"OK DEBUG_OFF\r\n"
            case cmd.SetVariable():
                self.variables.set(command.name, command.value)
                return b"+OK\r\n"
            case cmd.GetVariable():
                return reply.bulk(self.variables.get(command.name))
            case cmd.ShowVariables():
                return reply.array(self.variables.listing(command.prefix))
            case _:
                return self.admin.run(command)

    def _search(self, command: cmd.Search, session: Session) -> bytes:
        found, candidate_count, time_us = self.search(command)
        answer = reply.results([(item, float(np.float32(score))) for item, score in found])
        if not session.is_debugging:
            return answer
        mode = command.mode if isinstance(command, cmd.Sim) else "vector"
        fields = (
            ("mode", mode),
            ("query_time_us", time_us),
            ("candidates", candidate_count),
            ("results", len(found)),
        )
        return answer + reply.line("\n".join(["# DEBUG 4", *(f"{name}: {value}" for name, value in fields)]))

    def _authenticate(self, command: cmd.Auth, session: Session) -> bytes:
        if not self._password:
            return b"+OK (no password required)\r\n"
        if not self.is_password(command.password):
            raise AccessError("ERR invalid password")
        session.is_authenticated = True
        return b"+OK\r\n"

    def _dump(self, command: cmd.Dump) -> bytes:
        style = self.settings.snapshot.reply_style
        match command.verb:
            case "SAVE":
                return dump_reply.saved(self.dumps.save(command.path), style)
            case "LOAD":
                return self._load(command.path)
            case "VERIFY":
                checked = self.dumps.verify(command.path)
                if isinstance(checked, Refused):
                    return dump_reply.refused(checked, style)
                return dump_reply.verified(checked, style)
            case "INFO":
                found = self.dumps.info(command.path)
                if isinstance(found, Refused):
                    return dump_reply.refused(found, style)
                return dump_reply.info(found, style)
            case _:
                return dump_reply.status(self.saver.status)

    def _load(self, path: str) -> bytes:
        style = self.settings.snapshot.reply_style
        loaded = self.dumps.load(path)
        if isinstance(loaded, Refused):
            return dump_reply.refused(loaded, style)
        self.cache.clear()
        return dump_reply.loaded(loaded, style)
